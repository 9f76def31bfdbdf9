"""Fixes: Python source over the names of the arguments, tried before it is promised.

Each is evaluated on stand-ins of the arguments, and works only if the loss accepts the result.
"""

import contextlib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._contract.model import Call, Input, Refusal

# What a fix may raise that is none: PyTorch's refusals, and options whose `repr` is no expression.
# Anything else is not about the fix: a signal handler may raise at any line, also here.
REFUSALS = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(NameError, SyntaxError),
)

# One step each; `{0}` is the argument and `{1}` the one that it shall fit.
_STEPS = (
    "{0}.long()",
    "{0}.float()",
    "{0}.squeeze(-1)",
    "{0}.squeeze(1)",
    "{0}.squeeze(0)",
    "{0}.unsqueeze(0)",
    "{0}.unsqueeze(1)",
    "{0}.movedim(-1, 1)",
    "{0}.flatten()",
)
_WEIGHT_STEPS = ("{0}.view(-1, 1)", "{0}.flatten()", "{0}.float()")


class Face(NamedTuple):
    """What was called: its name for the message, and what a user writes to call it."""

    name: str  # "SafeCrossEntropyLoss", or that of the user's own subclass
    callee: str  # "SafeCrossEntropyLoss" or "safeloss.functional.cross_entropy"
    module: bool
    kernel: Callable[..., Any]
    native: str  # the function of `torch.nn.functional` that it calls


def working(
    face: Face,
    inputs: tuple[Input, ...],
    call: Call,
    refusal: Refusal,
    accepts: Callable[[Call], bool],
) -> list[str]:
    """Those fixes of a refusal, or else those single steps, that the loss accepts."""
    if refusal.fixes:
        fixes = [_spelled(fix, face, inputs, call) for fix in refusal.fixes]
    else:
        fixes = _candidates(face, inputs, call, refusal)
    tensors = stand_ins(call, "meta")
    return [fix for fix in dict.fromkeys(fixes) if _works(fix, tensors, call, accepts)]


def whole_call(face: Face, option: str, inputs: tuple[Input, ...], call: Call) -> str:
    """The call with `option` added, as a user would write it: its other options are kept."""
    given = [entry for entry in inputs if entry.name in call.shapes]
    aligned = ", ".join(entry.name for entry in given if not entry.weight)
    parameters = inspect.signature(face.kernel).parameters
    added = option.partition("=")[0]
    kept = [
        f"{name}={value!r}"
        for name, value in call.options.items()
        if name in parameters
        and name not in (added, "check_values", "size_average", "reduce")
        and parameters[name].default is not inspect.Parameter.empty
        and value != parameters[name].default
    ]
    weights = [f"{entry.name}={entry.name}" for entry in given if entry.weight]
    extra = ", ".join([*weights, *kept, *filter(None, [option])])
    if face.module:
        return f"{face.callee}({extra})({aligned})"
    return f"{face.callee}({', '.join(filter(None, [aligned, extra]))})"


def as_tensor(name: str, value: Any) -> str:
    """The line that makes a tensor of `value`; empty if none does."""
    for fix in ("torch.as_tensor({0})", "torch.stack({0})"):
        with contextlib.suppress(*REFUSALS):  # it is no fix
            evaluate(fix.format(name), {name: value})
            return fix.format(name)
    return ""


def evaluate(fix: str, tensors: Mapping[str, Any]) -> Any:
    """What `fix` gives, read as a user would run it: with `safeloss` and `torch` imported."""
    safeloss = sys.modules["safeloss"]
    # The text is ours, never the caller's: one of the expressions above or in a table.
    code = compile(fix, "<fix>", "eval")
    public = {name: getattr(safeloss, name) for name in code.co_names if name in safeloss.__all__}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nobody asked for this call; it is not an error either
        return eval(code, {**public, "safeloss": safeloss, "torch": torch, **tensors})


def edited_name(fix: str, names: Iterable[str]) -> str | None:
    """The argument that `fix` edits; None if it is a whole call."""
    root = re.match(r"\(*(\w+)", fix)
    return root[1] if root and root[1] in names else None


def _spelled(fix: str, face: Face, inputs: tuple[Input, ...], call: Call) -> str:
    if fix.startswith("{loss}"):
        return whole_call(face, fix[len("{loss}(") : -1], inputs, call)
    return fix.replace("{axis}", str(call.options.get("class_dim") or 1))


def _candidates(face: Face, inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> list[str]:
    first = inputs[0].name
    callee = f"{face.callee}()" if face.module else face.callee
    given = [entry for entry in inputs if entry.name in call.shapes]
    if refusal.weight:
        return [step.format(refusal.weight, first) for step in _WEIGHT_STEPS]
    aligned = [entry.name for entry in given if not entry.weight]
    fixes = [step.format(name) for step in _STEPS for name in reversed(aligned)]
    if _element_wise(given):
        if crossed(inputs, call):
            sizes = [[int(size) for size in call.shapes[name]] for name in aligned]
            joint = ", ".join(str(max(axis)) for axis in zip(*sizes))
            return [
                *(f"{name}.view_as({first})" for name in aligned[1:]),
                f"{callee}({', '.join(f'{name}.expand({joint})' for name in aligned)})",
            ]
        pairs = [(a, b) for a in reversed(aligned) for b in aligned if a != b]
        return [f"{a}.expand_as({b})" for a, b in pairs] + fixes
    return fixes


def _element_wise(given: list[Input]) -> bool:
    """Whether all have one layout, so that expanding one to another makes sense."""
    texts = {pattern.text for entry in given if not entry.weight for pattern in entry.patterns}
    return len(texts) == 1


def _same_order(call: Call, name: str, other: str) -> bool:
    """Whether they have the same axes but for those of size 1, so the same order of elements."""
    longer = [[size for size in call.shapes[key] if size != 1] for key in (name, other)]
    return longer[0] == longer[1]


def crossed(inputs: tuple[Input, ...], call: Call) -> bool:
    given = [entry for entry in inputs if not entry.weight and entry.name in call.shapes]
    first = given[0].name
    return _element_wise(given) and any(
        len(call.shapes[entry.name]) == len(call.shapes[first])
        and call.shapes[entry.name] != call.shapes[first]
        and _same_order(call, entry.name, first)
        for entry in given[1:]
    )


def _works(
    fix: str, tensors: Mapping[str, Tensor], call: Call, accepts: Callable[[Call], bool]
) -> bool:
    try:
        result = evaluate(fix, tensors)
    except REFUSALS:  # it is no fix
        return False
    name = edited_name(fix, tensors)
    if name is None:
        return True
    shapes = {**call.shapes, name: tuple(result.shape)}
    return accepts(call._replace(shapes=shapes, dtypes={**call.dtypes, name: result.dtype}))


def stand_ins(call: Call, device: str) -> dict[str, Tensor]:
    return {
        name: torch.zeros([int(size) for size in shape], dtype=call.dtypes[name], device=device)
        for name, shape in call.shapes.items()
    }
