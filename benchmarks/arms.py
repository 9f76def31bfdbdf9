"""The calls that each section compares."""

import types
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.cases import Case, Tensors, as_passed, prepared
from benchmarks.naive import naive
from benchmarks.others import others
from benchmarks.timing import NATIVE, Loop, loop
from benchmarks.weights import FORMS, both

Arms = dict[str, Loop]


class Cell(NamedTuple):
    """One comparison: a loss under one set of conditions."""

    section: str
    case: Case
    elements: int
    backward: bool
    threads: int


def arms(cell: Cell) -> Arms:
    """The ways of calling that share the rounds of `cell`; the native one comes first."""
    inputs = prepared(cell.case, cell.elements, cell.backward)
    return _SECTIONS[cell.section](cell.case, inputs, cell.backward)


def eager(case: Case, inputs: Tensors, backward: bool) -> Arms:
    """The modules. PyTorch's gets the view it should have been given, whatever ours gets."""
    safe = case.safe(check_values="never")
    found: Arms = {
        NATIVE: loop(case.native(), inputs, backward),
        "aligned": loop(safe, inputs, backward),
    }
    if case.normalised is not None:
        found["normalised"] = loop(safe, as_passed(case, inputs), backward)
    return found


def fresh(case: Case, inputs: Tensors, backward: bool) -> Arms:
    """The modules, built anew for every call, as in a `forward` that makes its own loss."""
    return {
        NATIVE: loop(lambda *given: case.native()(*given), inputs, backward),
        "safe": loop(lambda *given: case.safe()(*given), inputs, backward),
    }


def function(case: Case, inputs: Tensors, backward: bool) -> Arms:
    """The functions, and the native one behind jaxtyping's decorator."""
    return {
        NATIVE: loop(_there(case.native_function), inputs, backward),
        "safe": loop(_there(case.safe_function), inputs, backward),
        "naive": loop(naive(case), inputs, backward),
    }


def elsewhere(case: Case, inputs: Tensors, backward: bool) -> Arms:
    """The modules beside those of other libraries."""
    found: Arms = {
        NATIVE: loop(case.native(), inputs, backward),
        "safe": loop(case.safe(check_values="never"), inputs, backward),
    }
    return {**found, **{k: loop(call, inputs, backward) for k, call in others(case.name).items()}}


def values(case: Case, inputs: Tensors, backward: bool) -> Arms:
    """The ways of reading values; "first" has read them before the first round."""
    modes = ("never", "first", "always")
    made = {mode: loop(case.safe(check_values=mode), inputs, backward) for mode in modes}
    return {NATIVE: loop(case.native(), inputs, backward), **made}


def compiled(case: Case, inputs: Tensors, backward: bool, backend: str = "inductor") -> Arms:
    """The modules inside `torch.compile`; the compiler forgets what it made for other cells."""
    torch.compiler.reset()
    safe = case.safe(check_values="never")
    found: Arms = {
        NATIVE: loop(_compiled(case.native(), backend), inputs, backward),
        "aligned": loop(_compiled(safe, backend), inputs, backward),
    }
    if case.normalised is not None:
        found["normalised"] = loop(_compiled(safe, backend), as_passed(case, inputs), backward)
    return found


def weighted(case: Case, inputs: Tensors, backward: bool, form: str) -> Arms:
    """A weight, a mask or a count given with the call, and the same by hand."""
    by_hand, safe = both(form, case, inputs)
    return {NATIVE: loop(by_hand, inputs, backward), "safe": loop(safe, inputs, backward)}


def weighted_compiled(case: Case, inputs: Tensors, backward: bool, form: str) -> Arms:
    torch.compiler.reset()
    by_hand, safe = [_compiled(call, "inductor") for call in both(form, case, inputs)]
    return {NATIVE: loop(by_hand, inputs, backward), "safe": loop(safe, inputs, backward)}


def _there(function: Callable[..., Tensor] | None) -> Callable[..., Tensor]:
    assert function is not None, "cells() asks for functions only where there are some"
    return function


def _compiled(
    call: Callable[..., Tensor], backend: str, fullgraph: bool = True
) -> Callable[..., Tensor]:
    def step(*inputs: Tensor) -> Tensor:
        return call(*inputs)

    # Compiled code hangs on the code object: with a shared one, each arm would try the other's
    # guards before its own.
    own = types.FunctionType(step.__code__.replace(), globals(), "step", None, step.__closure__)
    return torch.compile(own, fullgraph=fullgraph, backend=backend)


def own(case: Case, inputs: Tensors, backward: bool) -> Arms:
    """Losses that PyTorch lacks, beside those that they are compared with."""
    theirs, ours = case.native(), case.safe(check_values="never")
    return {NATIVE: loop(theirs, inputs, backward), "safe": loop(ours, inputs, backward)}


def own_compiled(case: Case, inputs: Tensors, backward: bool) -> Arms:
    torch.compiler.reset()
    theirs = _compiled(case.native(), "inductor", fullgraph=case.compiles)
    ours = _compiled(case.safe(check_values="never"), "inductor")
    return {NATIVE: loop(theirs, inputs, backward), "safe": loop(ours, inputs, backward)}


_SECTIONS: dict[str, Callable[[Case, Tensors, bool], Arms]] = {
    "eager": eager,
    "function": function,
    "fresh": fresh,
    "elsewhere": elsewhere,
    "values": values,
    "compiled": compiled,
    "own": own,
    "own, compiled": own_compiled,
    **{form: partial(weighted, form=form) for form in FORMS},
    **{f"{form}, compiled": partial(weighted_compiled, form=form) for form in FORMS},
}
