"""Which fixes the shapes of a refused call suggest, and the facts: which sizes differ.

An axis is known by its name: the first axis counts the samples, in class losses the second one the
classes. Sizes only confirm it: a fix is never suggested because two sizes happen to be equal.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from safeloss._contract.labels import are_whole
from safeloss._contract.model import Call, Input, Offer, Refusal
from safeloss._contract.options import AT_CALL
from safeloss._contract.patterns import Pattern, Shape
from safeloss.errors import DTypeError


def shape_offers(inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> Iterator[Offer]:
    """What may make the shapes or the dtypes fit."""
    first = inputs[0]
    if refusal.error is DTypeError:
        for entry in inputs:
            if entry.name in call.shapes and not entry.weight:
                yield from _dtypes(entry, call.dtypes[entry.name])
        return
    others = [x for x in inputs[1:] if x.name in call.shapes and not x.weight]
    misfits = [x for x in others if tuple(call.shapes[x.name]) != tuple(call.shapes[first.name])]
    if all(_element_wise(first, other) for other in others):
        if has_crossed_ones(inputs, call):
            yield from _crossed(first, misfits)
        elif len(misfits) == 1:
            yield from _pair(first.name, misfits[0].name, call)
        elif misfits == others and len({tuple(call.shapes[x.name]) for x in others}) == 1:
            yield from _stretched(first.name, others[0].name, call)
    elif len(others) == 1:
        yield from _classes(first, others[0], call)


def _dtypes(entry: Input, dtype: torch.dtype) -> Iterator[Offer]:
    """What may give an argument another dtype. Integers are not made scores: they may be labels."""
    name = entry.name
    if all(dtype in pattern.dtypes for pattern in entry.patterns):
        return
    if str(dtype) in _QUANTIZED:
        yield Offer(f"{name}.dequantize()")
    elif any(pattern.kind == "Integer" for pattern in entry.patterns):

        def whole(tensors: Mapping[str, Tensor], axis: int) -> bool:
            return are_whole(tensors[name])

        yield Offer(f"{name}.long()", f"the numbers of `{name}` are integers", whole, whole)
    elif any(pattern.has("features") for pattern in entry.patterns) and not dtype.is_complex:
        yield Offer(f"{name}.float()")


_QUANTIZED = ("torch.qint8", "torch.quint8", "torch.qint32", "torch.quint4x2", "torch.quint2x4")


def _element_wise(one: Input, other: Input) -> bool:
    """Whether both have one layout, so that each number of one meets one of the other."""
    return {pattern.text for pattern in one.patterns} == {p.text for p in other.patterns}


def _crossed(first: Input, others: list[Input]) -> Iterator[Offer]:
    if len(others) == 1:
        name = others[0].name
        yield Offer(
            f"{name}.view_as({first.name})",
            f"each number of `{first.name}` has one `{name}` of its own",
        )
    names = ", ".join([first.name, *(other.name for other in others)])
    yield Offer(
        f"{{loss}}(*torch.broadcast_tensors({names}))",
        f"every number of `{first.name}` shall meet every number of `{others[0].name}`",
    )


def _pair(first: str, other: str, call: Call) -> Iterator[Offer]:
    """Two tensors that are compared element by element, and have different shapes."""
    shape, short = call.shapes[first], call.shapes[other]
    rank = len(shape)
    if len(short) == 1 and rank > 1 and short[0] == shape[0]:
        # One number for each sample, also where there are as many samples as anything else.
        axes = "unsqueeze(-1)" if rank == 2 else f"view(-1{', 1' * (rank - 1)})"
        yield Offer(
            f"{other}.{axes}.expand_as({first})",
            f"the `{other}` of a sample is meant for each of its numbers",
        )
    elif _is_flat(shape, short):
        yield Offer(f"{other}.flatten(1)")
    elif _is_flat(short, shape):
        yield Offer(f"{other}.reshape({first}.shape)")
    elif _is_row(short, shape):
        yield Offer(
            f"{other}.reshape({first}.shape)",
            f"in `{other}` the numbers of a sample follow each other",
        )
    elif _is_row(shape, short):
        yield Offer(f"{other}.flatten()", f"in `{first}` the numbers of a sample follow each other")
    else:
        yield from _stretched(first, other, call)
        yield from _stretched(other, first, call)


def _stretched(one: str, other: str, call: Call) -> Iterator[Offer]:
    """`one` repeated along its axes of size 1."""
    short, shape = call.shapes[one], call.shapes[other]
    if len(short) not in (0, len(shape)):
        return
    if all(a == b or a == 1 for a, b in zip(short, shape)):
        yield Offer(f"{one}.expand_as({other})", f"`{one}` is meant to be repeated")


def _is_flat(flat: Shape, shape: Shape) -> bool:
    """Whether both have the same samples, each one in a single row in the first."""
    return len(flat) == 2 < len(shape) and flat[0] == shape[0] and flat[1] == math.prod(shape[1:])


def _is_row(row: Shape, shape: Shape) -> bool:
    """Whether `row` has all numbers of all samples on its only axis."""
    return len(row) == 1 < len(shape) and row[0] != shape[0] and row[0] == math.prod(shape)


def _classes(first: Input, target: Input, call: Call) -> Iterator[Offer]:
    """Class scores and class indices."""
    scores, labels = call.shapes[first.name], call.shapes[target.name]
    if not any(pattern.has("classes") for pattern in first.patterns) or not scores or not labels:
        return
    order = f"the rows of `{first.name}` are in the order of `{target.name}`"
    if len(scores) == 2 <= len(labels) and scores[0] != labels[0]:
        yield Offer(f"{target.name}.flatten()", order)
    elif len(labels) == 1 and len(scores) > 2 and scores[0] != labels[0]:
        last = f"the last axis of `{first.name}` holds the classes, and {order}"
        yield Offer(f"{first.name}.flatten(0, -2)", last)
    elif len(labels) == len(scores) > 2:
        yield Offer(
            f"{target.name}.movedim(-1, 1)", f"the last axis of `{target.name}` holds the classes"
        )


def weight_offers(inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> Iterator[Offer]:
    """What may make a weight fit."""
    first, name = inputs[0].name, refusal.weight
    entry = next(entry for entry in inputs if entry.name == name)
    shape, full = call.shapes[name], call.shapes[first]
    if name == "denominator" or (name in AT_CALL and call.dtypes[name].is_complex):
        return  # no number that was meant
    yield Offer(f"{name}.float()")
    if len(shape) > 1 and sum(size != 1 for size in shape) == 1:
        yield Offer(f"{name}.flatten()")
    per_sample = len(shape) == 1 and len(full) > 1 and shape[0] == full[0]
    if per_sample and name == "weight":
        when = "" if len(full) == 2 else f"`{name}` has one number for each sample"
        if any(pattern.broadcast for pattern in entry.patterns):
            yield Offer(f"{name}.view(-1{', 1' * (len(full) - 1)})", when)
        elif _element_wise(inputs[0], entry):
            yield Offer(
                f"{name}.view(-1{', 1' * (len(full) - 1)}).expand_as({first})",
                f"`{name}` has one number for each sample",
            )
        else:
            yield Offer("{loss}(sample_weight=weight)", when)
    elif _element_wise(inputs[0], entry):
        yield from _stretched(name, first, call)


def has_crossed_ones(inputs: tuple[Input, ...], call: Call) -> bool:
    """Whether size-1 axes stand at different places, as in `[8, 1]` and `[1, 8]`."""
    given = [entry for entry in inputs if not entry.weight and entry.name in call.shapes]
    first = call.shapes[given[0].name]
    return all(_element_wise(given[0], entry) for entry in given[1:]) and any(
        len(call.shapes[entry.name]) == len(first)
        and tuple(call.shapes[entry.name]) != tuple(first)
        and _without_ones(call.shapes[entry.name]) == _without_ones(first)
        for entry in given[1:]
    )


def _without_ones(shape: Shape) -> list[int]:
    return [size for size in shape if size != 1]


def facts(inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> str:
    """Which sizes differ, in words."""
    first = inputs[0]
    if refusal.weight in AT_CALL:
        return ""  # it fits the unreduced loss, and not the scores
    if refusal.weight:
        return _weight_facts(first, refusal.weight, call)
    said = []
    for entry in inputs[1:]:
        if entry.name in call.shapes and not entry.weight:
            said.append(_differences(first, entry, call))
    return " ".join(filter(None, said))


def _differences(first: Input, other: Input, call: Call) -> str:
    shape, came = call.shapes[first.name], call.shapes[other.name]
    samples, their = _samples(first, shape), _samples(other, came)
    if samples is not None and their is not None and samples != their:
        return f"`{first.name}` has {_count(samples, 'sample')}, `{other.name}` {their}."
    if tuple(shape) == tuple(came):
        return ""
    expected = _spelled(first, other, call, last=call.options.get("class_dim") == -1)
    if tuple(came) in expected:
        return ""
    if not expected:
        axes = _count(len(shape), "axis")
        return f"`{first.name}` has {axes}, `{other.name}` {len(came)}."
    shapes = " or ".join(dict.fromkeys([str(list(size)) for size in expected]))
    words = f"For this `{first.name}`, `{other.name}` must be {shapes}; it is {list(came)}."
    undecided = call.options.get("class_dim", 1) is None and len(shape) > 2
    lasts = _spelled(first, other, call, last=True) if undecided else []
    if any(_is_off_by_one(came, size) for size in [*expected, *lasts]):
        words += (
            " If each position predicts the next one, as in a language model, leave out the last "
            "position of the scores and the first label."
        )
    return words


def _is_off_by_one(came: Shape, expected: Shape) -> bool:
    """Whether one axis, but not that of the samples, is longer or shorter by 1."""
    if len(came) != len(expected) or came[:1] != expected[:1]:
        return False
    return sorted(abs(a - b) for a, b in zip(came, expected))[-2:] in ([0, 1], [1])


def _samples(entry: Input, shape: Shape) -> int | None:
    """How many samples a tensor has, by the axis that its layout calls so."""
    for pattern in entry.patterns:
        names = [dim.name for dim in pattern.dims]
        if not shape or not _has_rank(pattern, len(shape)):
            continue
        if pattern.dims[0].variadic:
            return shape[0]  # any axes at all, of which the first counts the samples
        if "batch" in names:
            return shape[names.index("batch")]
    return None


def _has_rank(pattern: Pattern, rank: int) -> bool:
    return rank >= len(pattern.dims) - 1 if pattern.variadic else rank == len(pattern.dims)


def _spelled(first: Input, other: Input, call: Call, last: bool) -> list[tuple[int, ...]]:
    """The shapes that `other` may have beside this first argument."""
    found = []
    for pattern in first.patterns_last if last else first.patterns:
        axes = pattern.match(call.shapes[first.name], {})
        if axes is None:
            continue
        candidates = other.patterns_last if last else other.patterns
        typed = [p for p in candidates if call.dtypes[other.name] in p.dtypes] or list(candidates)
        for each in typed:
            spelled = each.spell(axes)
            if spelled is not None and (each.has("batch") or not pattern.has("batch")):
                found.append(tuple(spelled))
    return found


def _weight_facts(first: Input, name: str, call: Call) -> str:
    shape, full = call.shapes[name], call.shapes[first.name]
    if len(shape) != 1 or not full:
        return f"`{name}` is {list(shape)}, `{first.name}` {list(full)}."
    pattern = next((p for p in first.patterns if _has_rank(p, len(full))), first.patterns[0])
    axis = pattern.class_axis(len(full))
    words = f"`{name}` has {_count(shape[0], 'number')}, "
    if axis is None:
        return f"{words}and the last axis of `{first.name}` {full[-1]}."
    words += f"`{first.name}` {_count(full[axis], 'class')}"
    if shape[0] == full[0]:
        words += f" and {_count(full[0], 'sample')}"
    return f"{words}."


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    plural = {"axis": "axes", "class": "classes"}.get(noun, f"{noun}s")
    return f"{number} {plural}"
