"""What to say to somebody whose call was refused: the table, what native does, fixes that work.

Runs only when about to raise. A fix is Python source over the names of the arguments; it is
evaluated on small or meta stand-ins, and offered only if the loss accepts the result.
"""

import ast
import contextlib
import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._matching import Pattern
from safeloss._reading import OURS, Call, Input, Refusal
from safeloss._values import Broken
from safeloss.errors import (
    Argument,
    ArgumentTypeError,
    DeviceError,
    DTypeError,
    SafeLossError,
    ValueRangeError,
    raised_by_torch,
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
_MOST_FIXES = 3
_PLAIN = (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError)
_SMALL = 1024  # elements: up to here native is tried on real zeros, beyond it on meta tensors


class Where(NamedTuple):
    """The argument whose values break a rule, as the user gave it."""

    argument: str
    axis: int  # that holds the classes
    moved: bool  # whether native gets that axis as the second


class Face(NamedTuple):
    """What was called: its name for the message, and what a user writes to call it."""

    name: str  # "SafeCrossEntropyLoss", or that of the user's own subclass
    callee: str  # "SafeCrossEntropyLoss" or "safeloss.functional.cross_entropy"
    module: bool
    kernel: Callable[..., Any]


def explain(
    face: Face,
    inputs: tuple[Input, ...],
    call: Call,
    refusal: Refusal,
    accepts: Callable[[Call], bool],
) -> SafeLossError:
    """The error for `refusal`, each of its fixes tried."""
    stand_ins = _stand_ins(call, "meta")
    if refusal.fixes:
        candidates = [_spelled(fix, face, inputs, call) for fix in refusal.fixes]
    else:
        candidates = _candidates(face, inputs, call, refusal)
    fixes = [fix for fix in candidates if _works(fix, stand_ins, call, accepts)]
    advice = refusal.advice
    if not advice and _crossed(inputs, call):
        advice = "Element by element, or every one against every other? Say which."
    if not fixes:
        advice = f"{advice} No single step makes these fit.".lstrip()
    return refusal.error.about(
        face.name,
        refusal.rule,
        arguments=table(inputs, call),
        native=_native(face.kernel, call),
        advice=advice,
        fixes=tuple(dict.fromkeys(fixes))[:_MOST_FIXES],
    )


def explain_type(
    loss: str, inputs: tuple[Input, ...], named: Mapping[str, Any], wrong: list[str]
) -> SafeLossError:
    """The error for arguments that are no tensors."""
    rows = []
    for entry in inputs:
        value = named[entry.name]
        if value is not None or not entry.weight:
            tensor = isinstance(value, Tensor)
            came = describe(value.dtype, value.shape) if tensor else type(value).__name__
            rows.append(Argument(entry.name, came, declared(entry.patterns)))
    return ArgumentTypeError.about(
        loss,
        f"{' and '.join([f'`{name}`' for name in wrong])} must be a tensor.",
        arguments=tuple(rows),
        fixes=tuple(filter(None, [_as_tensor(name, named[name]) for name in wrong])),
    )


def _as_tensor(name: str, value: Any) -> str:
    """The line that makes a tensor of `value`; empty if none does."""
    for fix in ("torch.as_tensor({0})", "torch.stack({0})"):
        with contextlib.suppress(Exception):  # whatever it raises, it is no fix
            evaluate(fix.format(name), {name: value})
            return fix.format(name)
    return ""


def explain_value(
    face: Face,
    where: Where,
    broken: Broken,
    inputs: tuple[Input, ...],
    call: Call,
    tensors: Mapping[str, Tensor],
    mends: Callable[[dict[str, Any]], bool],
) -> SafeLossError:
    """The error for values that break a rule: the first of them, and what mends all."""
    name, axis, moved = where
    values, advice, fixes = tensors[name], "", []
    for text, meant_for in broken.rule.fixes:
        if meant_for is None or set(values.unique().tolist()) <= meant_for:
            fix = text.format(name, axis=axis)
            with contextlib.suppress(Exception):  # whatever it raises, it is no fix
                result = evaluate(fix, tensors)
                if edited_name(fix, tensors) is None or mends({name: result}):
                    fixes.append(fix)
    wrong = values
    if broken.mask.dim():
        # A view of size-1 axes keeps the order of the elements: the first one is the first one.
        mask = (broken.mask.movedim(1, -1) if moved else broken.mask).reshape(values.shape)
        wrong = values[mask]
        index = mask.nonzero()[0].tolist()
        advice = f"First at {index}: {broken.rule.found(values, index, axis)}."
    for text in broken.rule.options:
        value = wrong.unique().tolist()
        option = text.format(value=value[0] if value else "")
        key, _, _ = option.partition("=")
        marker = len(value) == 1 and (value[0] < 0 or value[0] == 255)  # as data sets mark "none"
        if key not in call.options:
            continue
        changed = value[0] if "{value}" in text else ast.literal_eval(option.partition("=")[2])
        if ("{value}" not in text or marker) and mends({key: changed}):
            fixes.append(whole_call(face, option, inputs, call))
    return ValueRangeError.about(
        face.name,
        f"`{name}` {broken.rule}.",
        arguments=table(inputs, call),
        advice=advice,
        fixes=tuple(fixes)[:_MOST_FIXES],
    )


def explain_failure(
    face: Face,
    arguments: tuple[Argument, ...],
    tensors: Mapping[str, Tensor],
    error: Exception,
) -> SafeLossError | None:
    """Our error for what only native noticed; None for what is not about the arguments."""
    if type(error) not in _PLAIN or not raised_by_torch(error):
        return None  # out of memory, an exception of the user's own, ...
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1 and "device" in str(error):
        rows = tuple(
            row._replace(came=f"{row.came} on {tensors[row.name].device}") for row in arguments
        )
        first = next(iter(tensors))
        fixes = tuple(
            f"{name}.to({first}.device)"
            for name, tensor in tensors.items()
            if tensor.device != tensors[first].device
        )
        rule = "the tensors are on different devices."
        return DeviceError.about(face.name, rule, arguments=rows, fixes=fixes)
    about = (
        DTypeError
        if re.search(r"not implemented for|dtype|scalar type", str(error))
        else SafeLossError
    )
    said = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return about.about(
        face.name,
        "PyTorch refuses these arguments.",
        arguments=arguments,
        native=f"{native_name(face.kernel)} raises {type(error).__name__}: {said}",
    )


def brief(loss: str, inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> str:
    """The same in one string, for where nothing can be tried: inside a trace."""
    rows = [f"{name} {came}, declared {layout}" for name, came, layout in table(inputs, call)]
    return f"{loss}: {refusal.rule} {refusal.advice} ({'; '.join(rows)})"


def table(inputs: tuple[Input, ...], call: Call) -> tuple[Argument, ...]:
    """Every tensor of the call: what came, and what is declared for the rank of the first."""
    last = call.options.get("class_dim") == -1
    rows = []
    batched: bool | None = None
    for entry in inputs:
        if entry.name in call.shapes:
            shape = call.shapes[entry.name]
            patterns = entry.patterns_last if last else entry.patterns
            if batched is None:
                fitting = tuple(p for p in patterns if p.match(shape, {}) is not None)
                patterns = fitting or patterns
                batched = any(pattern.has("batch") for pattern in fitting)
            elif batched and not entry.weight:
                patterns = tuple(p for p in patterns if p.has("batch") or p.free)
            came = describe(call.dtypes[entry.name], shape)
            rows.append(Argument(entry.name, came, declared(patterns)))
    return tuple(rows)


def describe(dtype: torch.dtype, shape: Iterable[int]) -> str:
    """`float32 [32, 1]`."""
    # `f"{size}"` is what Dynamo can do with a symbolic size.
    return f"{str(dtype).replace('torch.', '')} [{', '.join([f'{size}' for size in shape])}]"


def declared(patterns: tuple[Pattern, ...]) -> str:
    """`Integer or Bool [batch, *space] or Float [batch, classes, *space]`."""
    kinds: dict[str, list[str]] = {}
    for pattern in patterns:
        kinds.setdefault(pattern.text, []).append(pattern.kind)
    return " or ".join([f"{' or '.join(kinds[text])} {text}" for text in kinds])


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
    extra = ", ".join([*weights, *kept, option])
    if face.module:
        return f"{face.callee}({extra})({aligned})"
    return f"{face.callee}({aligned}, {extra})"


def evaluate(fix: str, tensors: Mapping[str, Tensor]) -> Any:
    """What `fix` gives, read as a user would run it: with `safeloss` and `torch` imported."""
    safeloss = sys.modules["safeloss"]
    # The text is ours, never the caller's: one of the expressions above or in a table.
    return eval(fix, {**vars(safeloss), "safeloss": safeloss, "torch": torch, **tensors})


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
        if _crossed(inputs, call):
            sizes = [[int(size) for size in call.shapes[name]] for name in aligned]
            joint = ", ".join(str(max(axis)) for axis in zip(*sizes))
            return [
                *(f"{name}.view_as({first})" for name in aligned[1:]),
                f"{callee}({', '.join(f'{name}.expand({joint})' for name in aligned)})",
            ]
        pairs = [(a, b) for a in reversed(aligned) for b in aligned if a != b]
        expands = [f"{a}.expand_as({b})" for a, b in pairs if _stretches(call, a, b)]
        return expands + fixes
    return fixes


def _element_wise(given: list[Input]) -> bool:
    """Whether all have one layout, so that expanding one to another makes sense."""
    texts = {pattern.text for entry in given if not entry.weight for pattern in entry.patterns}
    return len(texts) == 1


def _stretches(call: Call, name: str, other: str) -> bool:
    """Whether `name` broadcasts to the shape of `other`, by axes of size 1 of its own."""
    shape, full = call.shapes[name], call.shapes[other]
    rank = len(shape)
    return rank <= len(full) and all(
        size in (1, whole) for size, whole in zip(shape, full[len(full) - rank :])
    )


def _same_order(call: Call, name: str, other: str) -> bool:
    """Whether they have the same axes but for those of size 1, so the same order of elements."""
    longer = [[size for size in call.shapes[key] if size != 1] for key in (name, other)]
    return longer[0] == longer[1]


def _crossed(inputs: tuple[Input, ...], call: Call) -> bool:
    given = [entry for entry in inputs if not entry.weight and entry.name in call.shapes]
    first = given[0].name
    return _element_wise(given) and any(
        len(call.shapes[entry.name]) == len(call.shapes[first])
        and call.shapes[entry.name] != call.shapes[first]
        and _same_order(call, entry.name, first)
        for entry in given[1:]
    )


def _works(
    fix: str, stand_ins: Mapping[str, Tensor], call: Call, accepts: Callable[[Call], bool]
) -> bool:
    try:
        result = evaluate(fix, stand_ins)
    except Exception:  # whatever it raises, it is no fix
        return False
    name = edited_name(fix, stand_ins)
    if name is None:
        return True
    shapes = {**call.shapes, name: tuple(result.shape)}
    return accepts(call._replace(shapes=shapes, dtypes={**call.dtypes, name: result.dtype}))


def _stand_ins(call: Call, device: str) -> dict[str, Tensor]:
    return {
        name: torch.zeros([int(size) for size in shape], dtype=call.dtypes[name], device=device)
        for name, shape in call.shapes.items()
    }


def native_name(kernel: Callable[..., Any]) -> str:
    """The function of `torch.nn.functional` that a kernel's body calls."""
    return next((name for name in kernel.__code__.co_names if hasattr(F, name)), "")


def _native(kernel: Callable[..., Any], call: Call) -> str:
    """What PyTorch does with the same arguments, found out by asking it."""
    name = native_name(kernel)
    if not name:
        return ""
    largest = max(math.prod(int(size) for size in shape) for shape in call.shapes.values())
    small = largest <= _SMALL
    options = {key: value for key, value in call.options.items() if key not in OURS}
    if "reduction" in options:
        options["reduction"] = "none"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            result = kernel(**_stand_ins(call, "cpu" if small else "meta"), **options)
        except NotImplementedError:
            return ""
        except Exception as error:  # PyTorch raises whatever it likes; the name is all we say
            return f"{name} raises {type(error).__name__}."
    if result.numel() > largest:
        manner = "warns and broadcasts" if said else "says nothing and broadcasts"
        return f"{name} {manner} to [{', '.join(map(str, result.shape))}]."
    return f"{name} says nothing and returns a number." if small and not said else ""
