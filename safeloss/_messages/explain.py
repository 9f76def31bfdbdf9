"""What to say to somebody whose call was refused: the table, what native does, and the fixes.

Runs only when about to raise.
"""

import ast
import contextlib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.model import Call, Input, Refusal
from safeloss._contract.options import OURS
from safeloss._contract.patterns import Pattern
from safeloss._contract.values import Broken
from safeloss._messages.fixes import (
    REFUSALS,
    Face,
    as_tensor,
    crossed,
    edited_name,
    evaluate,
    stand_ins,
    whole_call,
    working,
)
from safeloss._messages.stack import raised_by_torch
from safeloss._torch import has_nested_size
from safeloss.errors import (
    Argument,
    ArgumentTypeError,
    DeviceError,
    OptionError,
    SafeLossError,
    ValueRangeError,
)

_MOST_FIXES = 3
# What torch raises about arguments; any other type is about something else.
_PLAIN = (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError)
# How it says that numbers are wrong: an index past the classes, a probability of 2, ...
_VALUES = re.compile(
    "out of (bounds|range)|between 0 and 1|negative entr|values should be|_lengths|at dimension"
)
_SMALL = 1024  # elements: up to here native is tried on real zeros, beyond it on meta tensors


class Where(NamedTuple):
    """The argument whose values break a rule, as the user gave it."""

    argument: str
    axis: int  # that holds the classes
    moved: bool  # whether native gets that axis as the second


def explain(
    face: Face,
    inputs: tuple[Input, ...],
    call: Call,
    refusal: Refusal,
    accepts: Callable[[Call], bool],
) -> SafeLossError:
    """The error for `refusal`, each of its fixes tried."""
    if refusal.error is OptionError:
        return OptionError.about(face.name, refusal.rule, code=refusal.code)
    nested = any([has_nested_size(shape) for shape in call.shapes.values()])
    fixes = [] if nested else working(face, inputs, call, refusal, accepts)
    advice = refusal.advice
    if not (advice or nested) and crossed(inputs, call):
        advice = "Element by element, or every one against every other? Say which."
    if nested:
        advice = f"{advice} Nested tensors fit where they have the same offsets.".lstrip()
    elif not fixes:
        advice = f"{advice} No single step makes these fit.".lstrip()
    return refusal.error.about(
        face.name,
        refusal.rule,
        code=refusal.code,
        arguments=table(inputs, call),
        native="" if nested or refusal.error is ValueRangeError else _native(face, call),
        advice=advice,
        fixes=tuple(fixes)[:_MOST_FIXES],
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
        code=codes.NO_TENSOR,
        arguments=tuple(rows),
        fixes=tuple(filter(None, [as_tensor(name, named[name]) for name in wrong])),
    )


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
        if meant_for is None or set(_distinct(values)) <= meant_for:
            fix = text.format(name, axis=axis)
            with contextlib.suppress(*REFUSALS):  # it is no fix
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
        value = _distinct(wrong)
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
        code=broken.rule.code,
        arguments=table(inputs, call),
        advice=advice,
        fixes=tuple(fixes)[:_MOST_FIXES],
    )


def _distinct(values: Tensor) -> list[Any]:
    """The numbers that `values` holds, each once; torch has no `unique` for complex ones."""
    return list(set(values.flatten().tolist())) if values.is_complex() else values.unique().tolist()


def is_about_arguments(error: Exception) -> bool:
    """Whether PyTorch raised `error` itself, and of a type that it raises about arguments."""
    return type(error) in _PLAIN and raised_by_torch(error)


def is_about_values(error: Exception) -> bool:
    """Whether PyTorch complains of numbers, so that our rules may say which and why."""
    return _VALUES.search(str(error)) is not None


def explain_devices(
    face: Face,
    arguments: tuple[Argument, ...],
    tensors: Mapping[str, Tensor],
    error: Exception,
) -> SafeLossError | None:
    """Our error for tensors on devices that native does not take together; None for others."""
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) < 2 or "device" not in str(error):
        return None
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
    return DeviceError.about(face.name, rule, code=codes.DEVICES, arguments=rows, fixes=fixes)


def add_note(face: Face, arguments: tuple[Argument, ...], error: Exception) -> None:
    """Say below the error of PyTorch what the loss was called with (since Python 3.11)."""
    add: Any = getattr(error, "add_note", None)
    if add is not None:
        came = ", ".join(f"{row.name} {row.came}" for row in arguments)
        add(f"{face.name} was called with {came}.")


def brief(inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> str:
    """The same in one string, for where nothing can be tried: inside a trace."""
    if refusal.error is OptionError:
        return refusal.rule
    rows = [f"{name} {came}, declared {layout}" for name, came, layout in table(inputs, call)]
    return f"{refusal.rule} {refusal.advice} ({'; '.join(rows)})"


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
    # `f"{size}"` is what Dynamo can do with a symbolic size, in a typed head.
    return f"{str(dtype).replace('torch.', '')} [{', '.join([f'{size}' for size in shape])}]"


def declared(patterns: tuple[Pattern, ...]) -> str:
    """`Integer or Bool [batch, *space] or Float [batch, classes, *space]`."""
    kinds: dict[str, list[str]] = {}
    for pattern in patterns:
        kinds.setdefault(pattern.text, []).append(pattern.kind)
    return " or ".join([f"{' or '.join(kinds[text])} {text}" for text in kinds])


def _native(face: Face, call: Call) -> str:
    """What PyTorch does with the same arguments, found out by asking it."""
    name = face.native
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
            result = face.kernel(**stand_ins(call, "cpu" if small else "meta"), **options)
        except (NotImplementedError, AssertionError):  # only on the stand-ins' device
            return ""
        except REFUSALS as error:  # the name is all we say
            return f"{name} raises {type(error).__name__}."
    if result.numel() > largest:
        manner = "warns and broadcasts" if said else "says nothing and broadcasts"
        return f"{name} {manner} to [{', '.join(map(str, result.shape))}]."
    return f"{name} says nothing and returns a number." if small and not said else ""
