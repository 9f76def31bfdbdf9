"""Torch's own test data: what it draws to test its losses gives the same here, bit for bit."""

import contextlib
import functools
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from losses import same, several
from torch import Tensor, nn

import safeloss
from safeloss import functional as SF
from safeloss._contract.values import (
    Between,
    LogProbability,
    NotMissing,
    NotNegative,
    Sign,
    SumToOne,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's data makes torch warn

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
DRAWN = [  # the samples are the same with gradients and without
    # element type,    requires_grad
    (torch.float64,    True),
    (torch.float32,    True),
    (torch.float32,    False),
    (torch.bfloat16,   True),
]  # fmt: skip
MODULES = [native.__name__ for native in safeloss.SAFE]
FUNCTIONS = [name for name in SF.__all__ if hasattr(F, name)]
over_losses = pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])

# The data is private to torch and changes from release to release: these are the numbers of one.
COUNTED = torch.__version__.startswith("2.13.")

# Samples that gave the same, bit for bit.
COMPARED = {torch.float64: 2068, torch.float32: 4136, torch.bfloat16: 1869}

STRETCHED = "1 against n: PyTorch repeats the smaller one"
LABELLED = "one label for several scores, also where the sizes are equal"
ONE_CLASS = "one class has no other that it could win against"
REFUSED = [
    # loss,                    its first two inputs,  samples, the ruling
    ("gaussian_nll_loss",      (5,), (1,),            144,     STRETCHED),
    ("gaussian_nll_loss",      (5,), (),              144,     STRETCHED),
    ("gaussian_nll_loss",      (5, 5), (5, 1),        144,     STRETCHED),
    ("gaussian_nll_loss",      (5, 5), (5,),          144,     LABELLED),
    ("gaussian_nll_loss",      (5, 5, 5), (5, 5, 1),  144,     STRETCHED),
    ("gaussian_nll_loss",      (5, 5, 5), (5, 5),     144,     LABELLED),
    ("hinge_embedding_loss",   (5, 5), (1, 5),        12,      STRETCHED),
    ("margin_ranking_loss",    (5, 2), (5, 1),        12,      STRETCHED),
    ("multi_margin_loss",      (), (),                147,     ONE_CLASS),
    ("multilabel_margin_loss", (), (),                27,      ONE_CLASS),
]  # fmt: skip

# Equal but for an axis of size 1: the output follows the scores, and PyTorch's the target.
FOLLOWED: list[Any] = []

# Of those compared, how many hold numbers that `check_values="always"` refuses, and by which rule.
BROKEN = [
    # loss,                         samples, broken rule
    ("KLDivLoss",                   6,       "input",  LogProbability()),
    ("KLDivLoss",                   31,      "target", NotMissing()),
    ("KLDivLoss",                   3,       "target", NotNegative()),
    ("LinearCrossEntropyLoss",      142,     "target", SumToOne()),
    ("MarginRankingLoss",           20,      "target", Sign()),
    ("cross_entropy",               40,      "target", SumToOne()),
    ("hinge_embedding_loss",        4,       "target", Sign()),
    ("linear_cross_entropy",        609,     "target", SumToOne()),
    ("margin_ranking_loss",         120,     "target", Sign()),
    ("multilabel_soft_margin_loss", 16,      "target", Between(0, 1)),
    ("nll_loss",                    146,     "input",  LogProbability()),
    ("soft_margin_loss",            24,      "target", Sign()),
]  # fmt: skip

# Samples that torch means to be refused, of modules in each element type.
ERRORS = 108


class Sample(NamedTuple):
    """Inputs, and the two losses that get them."""

    native: Callable[..., Any]
    safe: Callable[..., Any]
    read: Callable[..., Any]  # the safe one with `check_values="always"`
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        inputs = (*self.args, *self.kwargs.values())
        return tuple(tuple(x.shape) for x in inputs if isinstance(x, Tensor))[:2]


# The data ----------------------------------------------------------------------------------------


@functools.cache
def databases() -> tuple[dict[str, Any], list[Any]]:
    """The modules and the functions that torch has data of.

    Importing them takes seconds and sets up the process for torch's own tests: hypothesis, the
    flags of backends, options of a command line. Of which this suite wants nothing.
    """
    settings.register_profile("kept", settings.default)
    with (
        warnings.catch_warnings(),
        mock.patch.object(torch.backends, "disable_global_flags"),
        mock.patch.object(sys, "argv", sys.argv[:1]),
    ):
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
        from torch.testing._internal.common_modules import module_db
    settings.load_profile("kept")
    return {info.module_cls.__name__: info for info in module_db}, op_db


def operators(name: str) -> list[Any]:
    return [op for op in databases()[1] if op.name == f"nn.functional.{name}"]


def ours(checked: Any, values: str) -> dict[str, str]:
    """Options that leave the verdict on numbers to PyTorch, NaN for nothing among them."""
    given = {"check_values": values}
    if "nan" in checked.signature.choices("empty"):
        given["empty"] = "nan"
    return given


def samples(name: str, dtype: torch.dtype, requires_grad: bool) -> Iterator[Sample]:
    return (of_module if name in MODULES else of_function)(name, dtype, requires_grad)


def of_module(name: str, dtype: torch.dtype, requires_grad: bool) -> Iterator[Sample]:
    info = databases()[0].get(name)
    if info is None:
        return
    for drawn in info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=requires_grad
    ):
        args, kwargs = drawn.constructor_input.args, drawn.constructor_input.kwargs
        native, safe = info.module_cls(*args, **kwargs), safeloss.SAFE[info.module_cls]
        modules = [safe(*args, **kwargs, **ours(safe.forward, v)) for v in ("never", "always")]
        for module in modules:
            module.load_state_dict(native.state_dict())
        yield Sample(native, *modules, drawn.forward_input.args, drawn.forward_input.kwargs)


def of_function(name: str, dtype: torch.dtype, requires_grad: bool) -> Iterator[Sample]:
    kernel = getattr(SF, name)
    safe, read = (functools.partial(kernel, **ours(kernel, v)) for v in ("never", "always"))
    for op in operators(name):
        if dtype in op.dtypes:
            for drawn in op.reference_inputs("cpu", dtype, requires_grad=requires_grad):
                yield Sample(op.op, safe, read, (drawn.input, *drawn.args), drawn.kwargs)


# The comparison ----------------------------------------------------------------------------------


def run(loss: Callable[..., Any], sample: Sample) -> list[Tensor]:
    """The values, and the gradients of whatever wants one."""
    values = several(loss(*sample.args, **sample.kwargs))
    leaves = [*sample.args, *sample.kwargs.values()]
    if isinstance(loss, nn.Module):
        leaves += [*loss.parameters(), *loss.buffers()]
    wanted = [x for x in leaves if isinstance(x, Tensor) and x.requires_grad]
    total = sum(value.sum() for value in values)
    if not total.requires_grad:
        return [*values]
    grads = torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)
    return [*(value.detach() for value in values), *grads]


def verdict(sample: Sample) -> str:
    try:
        native = run(sample.native, sample)
    except RuntimeError:
        return "PyTorch raises"
    try:
        calls = [run(sample.safe, sample) for _ in range(2)]  # a new call, and one known by then
    except safeloss.LayoutError:
        return "refused"
    if all(same(call, native) for call in calls):
        return "equal"
    squeezed = [[x.squeeze() for x in call] for call in (native, *calls)]
    return "follows" if all(same(call, squeezed[0]) for call in squeezed) else "different"


def broken_rule(sample: Sample) -> str:
    try:
        sample.read(*sample.args, **sample.kwargs)
    except safeloss.ValueRangeError as error:
        return error.rule
    return ""


@functools.cache
def verdicts(name: str) -> Counter[tuple[str, torch.dtype, Any]]:
    """How many samples of the loss end how, by element type and shapes, or the rule they break."""
    counted: Counter[tuple[str, torch.dtype, Any]] = Counter()
    for dtype, requires_grad in DRAWN:
        torch.manual_seed(0)
        for sample in samples(name, dtype, requires_grad):
            found = verdict(sample)
            counted[found, dtype, sample.shapes] += 1
            if found == "equal" and (rule := broken_rule(sample)):
                counted["broken", dtype, rule] += 1
    return counted


def ended(name: str, wanted: str) -> Counter[Any]:
    """The samples of the loss that ended so, in every element type."""
    counted: Counter[Any] = Counter()
    for (found, _, why), count in verdicts(name).items():
        if found == wanted:
            counted[why] += count
    return counted


@over_losses
def test_the_same_bit_for_bit(name: str) -> None:
    found = verdicts(name)
    if not found:
        pytest.skip("torch has no data of it")
    assert not ended(name, "different")
    assert {dtype for end, dtype, _ in found if end == "PyTorch raises"} <= {torch.bfloat16}


@over_losses
@pytest.mark.parametrize(
    ("end", "rows"), [("refused", REFUSED), ("follows", FOLLOWED)], ids=["refused", "follows"]
)
def test_what_is_not_the_same_is_in_the_table(name: str, end: str, rows: list[Any]) -> None:
    expected = {(first, second): count for loss, first, second, count, *_ in rows if loss == name}
    found = ended(name, end)
    assert set(found) <= set(expected)
    if COUNTED:
        assert found == expected


@pytest.mark.skipif(not COUNTED, reason="the numbers are those of torch 2.13")
@over_losses
def test_what_the_rules_on_values_refuse(name: str) -> None:
    rows = {f"`{given}` {rule}.": count for loss, count, given, rule in BROKEN if loss == name}
    assert ended(name, "broken") == rows


def test_thousands_of_samples() -> None:
    compared = Counter()
    for name in (*MODULES, *FUNCTIONS):
        for (found, dtype, _), count in verdicts(name).items():
            if found in ("equal", "follows"):
                compared[dtype] += count
    assert compared.total() > 2000
    if COUNTED:
        assert compared == COMPARED


# What torch refuses ------------------------------------------------------------------------------


class Error(NamedTuple):
    """A call that torch means to be refused, and by what."""

    native: Callable[[], Any]
    safe: Callable[[], Any]
    type: type[Exception]
    in_constructor: bool = False


def errors(name: str) -> Iterator[Error]:
    return module_errors(name) if name in MODULES else function_errors(name)


def module_errors(name: str) -> Iterator[Error]:
    info = databases()[0].get(name)
    if info is None or info.module_error_inputs_func is None:
        return
    for dtype in DTYPES:
        for error in info.module_error_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=True, training=True
        ):
            drawn, constructor = error.module_error_input, error.error_on.name
            kinds = info.module_cls, safeloss.SAFE[info.module_cls]
            calls = [functools.partial(construct_and_call, kind, drawn) for kind in kinds]
            yield Error(*calls, error.error_type, constructor == "CONSTRUCTION_ERROR")


def construct_and_call(kind: type[nn.Module], drawn: Any) -> Any:
    module = kind(*drawn.constructor_input.args, **drawn.constructor_input.kwargs)
    return module(*drawn.forward_input.args, **drawn.forward_input.kwargs)


def function_errors(name: str) -> Iterator[Error]:
    for op in operators(name):
        for error in op.error_inputs("cpu") if op.error_inputs_func else ():
            drawn = error.sample_input
            given = (drawn.input, *drawn.args)
            faces = op.op, getattr(SF, name)
            calls = [functools.partial(face, *given, **drawn.kwargs) for face in faces]
            yield Error(*calls, error.error_type)


@over_losses
@pytest.mark.filterwarnings("ignore::safeloss.SuspiciousInputWarning")  # of empty batches
def test_what_torch_refuses_is_refused(name: str) -> None:
    """In our words where a rule of ours is broken, and otherwise by the very error of torch."""
    found = list(errors(name))
    if not found:
        pytest.skip("torch has no errors of it")
    owner = f"Safe{name}" if name in MODULES else name
    for error in found:
        with pytest.raises(error.type) as native:
            error.native()
        if "expected scalar type" in str(native.value):
            with contextlib.suppress(safeloss.SafeLossError):
                assert error.safe().isnan()  # a weight of another dtype is cast; the batch is empty
            continue
        with pytest.raises(Exception) as refusal:  # noqa: PT011  # its type is what is asserted
            error.safe()
        if re.match(rf"(\[SL\d+\] )?{owner}: ", str(refusal.value)):
            assert refusal.type is ValueError or issubclass(refusal.type, safeloss.SafeLossError)
        else:
            assert refusal.type is native.type
            assert str(refusal.value) == str(native.value)


@pytest.mark.skipif(not COUNTED, reason="the number is that of torch 2.13")
def test_a_hundred_errors() -> None:
    assert sum(len(list(errors(name))) for name in (*MODULES, *FUNCTIONS)) == ERRORS
