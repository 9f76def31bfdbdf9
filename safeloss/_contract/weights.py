"""What is given with one call: a weight for each sample, a mask, and the count to divide by.

Weights and masks are matched against the shape of the unreduced loss: they have it, up to axes of
size 1, or its first axes. The first axis is meant also where another one has the same size.
"""

from typing import NamedTuple

import torch

from safeloss._contract import codes
from safeloss._contract.model import Call, Edit, Input, Masked, Offer, Reading, Refusal
from safeloss._contract.options import AT_CALL, ignored_index
from safeloss._contract.patterns import Pattern, Shape, dtypes_of, fits
from safeloss.errors import DTypeError, LayoutError, OptionError


class Unreduced(NamedTuple):
    """The axes of the unreduced loss, by name, and their sizes."""

    labels: list[tuple[str, int]]
    shape: Shape


def place_weights(
    reading: Reading, call: Call, inputs: tuple[Input, ...], unreduced: Unreduced
) -> Reading | Refusal:
    """`reading` with the weight and the mask in shapes that broadcast to the unreduced loss."""
    whole = unreduced
    if call.options.get("reduction") == "batchmean":
        # It divides by the number of samples, so a weight is one for a sample.
        unreduced = Unreduced(unreduced.labels[:1], unreduced.shape[:1])
    leading = {}
    for entry in inputs:
        if entry.name not in AT_CALL or entry.name not in call.shapes:
            continue
        shape, dtype = call.shapes[entry.name], call.dtypes[entry.name]
        if dtype not in entry.patterns[0].dtypes:
            return _dtype_refusal(entry, call)
        if entry.name == "denominator":
            if len(shape) > 0:
                return _denominator_shape_refusal(len(shape))
            continue
        count = _leading_axes(shape, unreduced.shape)
        if count is None:
            return _misfit(entry.name, call, inputs, unreduced)
        leading[entry.name] = count
        view = (*unreduced.shape[:count], *(1 for _ in whole.shape[count:]))
        cast = _cast(dtype, call.dtypes[inputs[0].name])
        if len(view) != len(shape) or cast is not None:
            edits = dict(reading.edits)
            edits[entry.name] = Edit(view if len(view) != len(shape) else None, dtype=cast)
            reading = reading._replace(edits=edits)
        patterns = {**reading.patterns, entry.name: entry.patterns[0]}
        reading = reading._replace(patterns=patterns)
    shares = any([count < len(whole.shape) for count in leading.values()])
    reading = reading._replace(shares=shares)
    return _with_mask(reading, call, inputs, whole, leading) if "mask" in leading else reading


def _leading_axes(shape: Shape, unreduced: Shape) -> int | None:
    """How many of the first axes of the unreduced loss a tensor has; None if it does not fit."""
    if fits(shape, unreduced):
        return len(unreduced)
    axes = len(shape)
    while axes > 1 and shape[axes - 1] == 1:  # the first axis counts samples, also a single one
        axes -= 1
    if axes > len(unreduced):
        return None
    for axis in range(axes):
        if shape[axis] != unreduced[axis]:
            return None
    return axes


def _cast(dtype: torch.dtype, scores: torch.dtype) -> torch.dtype | None:
    """The dtype to cast a float64 weight to, so that it does not widen the loss; None: none."""
    if dtype != torch.float64 or scores in (torch.float64, torch.complex128):
        return None
    return torch.float32 if scores.is_floating_point or scores.is_complex else None


def _with_mask(
    reading: Reading,
    call: Call,
    inputs: tuple[Input, ...],
    unreduced: Unreduced,
    leading: dict[str, int],
) -> Reading | Refusal:
    """`reading` with what the mask means for each argument."""
    masked = {}
    for entry in inputs:
        name = entry.name
        # Lengths may be a list, which has no pattern.
        pattern = reading.patterns.get(name, entry.patterns[0])
        if name == "sample_weight" and name in call.shapes:
            shared = tuple(range(leading[name], len(unreduced.shape)))
            masked[name] = Masked(None, shared, (), ())
        elif entry.weight:  # it may have one number for each of the unreduced loss
            each = len(call.shapes.get(name, ())) == len(unreduced.shape)
            if name in call.shapes and pattern.fill is not None and each:
                masked[name] = _mask_of(name, pattern.fill, pattern, reading, call, unreduced)
        else:
            if pattern.joined:
                return Refusal(
                    LayoutError,
                    f"`mask` cannot leave out a sample of `{name}`, which joins all samples on "
                    "one axis.",
                    code=codes.PER_SAMPLE,
                    advice=f"Pass `{name}` padded, as [batch, length].",
                )
            value = pattern.fill
            if pattern.reads == "AS_INDICES" and "ignore_index" in call.options:
                value = ignored_index(call.options)
            masked[name] = _mask_of(name, value, pattern, reading, call, unreduced)
    return reading._replace(masked=masked)


def _mask_of(
    name: str,
    value: float | None,
    pattern: Pattern,
    reading: Reading,
    call: Call,
    unreduced: Unreduced,
) -> Masked:
    edit = reading.edits.get(name, Edit())
    shape = call.shapes.get(name) if edit.shape is None else edit.shape
    labels = pattern.labels(reading.axes)
    if edit.classes_to_second:
        labels.insert(1, labels.pop())
    places = {label: axis for axis, label in enumerate(labels)}
    shared, missing = [], []
    for axis, label in enumerate(unreduced.labels):
        if label not in places:
            missing.append(axis)
            shared.append(axis)
        elif pattern.broadcast and shape is not None and shape[places[label]] == 1:
            shared.append(axis)
    own = tuple(axis for axis, label in enumerate(labels) if label not in unreduced.labels)
    return Masked(value, tuple(shared), tuple(missing), own)


def ignores_index(reading: Reading, call: Call, target: str) -> bool:
    """Whether PyTorch itself leaves out what the mask leaves out, by the index to be ignored."""
    return "ignore_index" in call.options and reading.patterns[target].reads == "AS_INDICES"


def denominator_refusal(call: Call) -> Refusal:
    """The refusal of a denominator where nothing is divided by a count of elements."""
    reduction = call.options["reduction"]
    rule = (
        f"`denominator` divides the sum in the place of the mean's own count, so it needs "
        f'reduction="mean"; it is {reduction!r}.'
    )
    return Refusal(OptionError, rule, code=codes.DENOMINATOR)


def _denominator_shape_refusal(axes: int) -> Refusal:
    rule = f"`denominator` must be one number; it has {axes} {'axis' if axes == 1 else 'axes'}."
    fixes = (Offer("denominator.sum()", "its numbers are counts to be added"),)
    return Refusal(LayoutError, rule, code=codes.DENOMINATOR, fixes=fixes)


def _dtype_refusal(entry: Input, call: Call) -> Refusal:
    """The refusal of the dtype of `entry`."""
    name, dtype = entry.name, str(call.dtypes[entry.name]).replace("torch.", "")
    rule = f"`{name}` is {dtype}; it must be {dtypes_of(entry.patterns)}"
    fixes: tuple[Offer, ...] = ()
    if name == "mask":
        rule += " (True: counts)"
        fixes = mask_offers("mask")
    elif dtype == "bool" and name == "sample_weight":
        rule += " (bool is a mask)"
        if "mask" not in call.given:  # else the fix would take the place of that mask
            fixes = (Offer("{loss}(mask=sample_weight)", "True marks what counts"),)
    return Refusal(DTypeError, f"{rule}.", code=codes.DTYPE, fixes=fixes, weight=name)


def mask_offers(numbers: str) -> tuple[Offer, ...]:
    """What may make a mask of numbers."""
    return (
        Offer(f"{numbers} != 0", "0 marks what does not count"),
        Offer(f"{numbers} == 0", "0 marks what counts"),
    )


def _misfit(name: str, call: Call, inputs: tuple[Input, ...], unreduced: Unreduced) -> Refusal:
    """The refusal of a shape, with the shapes that would do."""
    shape = call.shapes[name]
    axes = len(unreduced.shape)
    fitting = " or ".join([_shape_text(unreduced.shape[:count]) for count in range(axes, 0, -1)])
    rule = (
        f"`{name}` is {_shape_text(shape)}; it must have the shape of the unreduced loss, or its "
        f"first axes: {fitting or 'a number'}."
    )
    return Refusal(
        LayoutError, rule, code=codes.PER_SAMPLE, advice=_advice(name, shape, call, inputs)
    )


def _shape_text(shape: Shape) -> str:
    return f"[{', '.join([f'{size}' for size in shape])}]"


def _advice(name: str, shape: Shape, call: Call, inputs: tuple[Input, ...]) -> str:
    first = inputs[0]
    full = call.shapes[first.name]
    weighs = any([entry.name == "weight" for entry in inputs])
    pattern = next(
        (p for p in first.patterns if p.has("classes") and p.match(full, {}) is not None), None
    )
    if name != "sample_weight" or not weighs or len(shape) != 1 or pattern is None:
        return ""
    axis = pattern.class_axis(len(full))
    if axis is None or shape[0] != full[axis]:
        return ""
    return f"One number for each class is `weight`'s job: `{name}` counts samples."
