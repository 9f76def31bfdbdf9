"""What a loader gives, whatever holds it: its tensors, and some of its samples."""

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from safeloss._audit.snapshot import copy_of

Change: TypeAlias = Callable[[Any], Any]


def tensors(value: Any) -> list[Tensor]:
    """The tensors that a batch, or what a model gives, is made of."""
    found: list[Tensor] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            found.append(leaf)
        return leaf

    replaced(value, note)
    return found


def replaced(value: Any, change: Change) -> Any:
    """`value` with `change` applied to everything in it that holds nothing else."""
    if isinstance(value, Mapping):
        return _like(value, {key: replaced(each, change) for key, each in value.items()})
    if isinstance(value, PackedSequence):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[replaced(each, change) for each in value])
    if isinstance(value, (tuple, list)):
        changed = [replaced(each, change) for each in value]
        return tuple(changed) if isinstance(value, tuple) else change(changed)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _with_fields(value, {f.name: f.name for f in dataclasses.fields(value)}, change)
    return change(value)


def _like(mapping: Mapping[Any, Any], changed: dict[Any, Any]) -> Any:
    """A mapping of the same kind with other values."""
    if type(mapping) is dict:
        return changed
    other: Any = copy.copy(mapping)
    for key, value in changed.items():
        other[key] = value
    return other


def _with_fields(value: Any, names: Mapping[str, str], change: Change) -> Any:
    other = copy.copy(value)
    for name in names:
        if hasattr(value, name):  # a field may be left out by `init=False`
            object.__setattr__(other, name, replaced(getattr(value, name), change))
    return other


def cloned(value: Any) -> Any:
    """A copy that may be changed in place."""

    def clone(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.detach().clone().requires_grad_(leaf.requires_grad)
        if isinstance(leaf, list):
            return list(leaf)
        return copy_of(leaf)

    return replaced(value, clone)


class Axis:
    """Where the samples of a batch are counted, and how many there are."""

    def __init__(self, batch: Any, dim: int) -> None:
        self.dim = dim
        sizes = [each.shape[dim] for each in tensors(batch) if _has(each, dim)]
        sizes = sizes or [len(each) for each in tensors(batch) if each.dim()]
        self.size = Counter(sizes).most_common(1)[0][0] if sizes else 0

    def of(self, tensor: Tensor) -> int | None:
        """The axis along which `tensor` counts the samples; None where it has no such axis."""
        for axis in (self.dim, 0):
            if _has(tensor, axis) and tensor.shape[axis] == self.size:
                return axis
        return None

    def take(self, batch: Any, rows: Sequence[int]) -> Any:
        """Those samples of a batch."""

        def taken(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                axis = self.of(leaf)
                return leaf if axis is None else _selected(leaf, axis, rows)
            if isinstance(leaf, list) and len(leaf) == self.size and leaf is not batch:
                return [leaf[row] for row in rows]
            return leaf

        return replaced(batch, taken)

    def moved(self, batch: Any, sample: int, other: int) -> Any:
        """The batch with everything of one sample replaced by that of another."""
        rows = list(range(self.size))
        rows[sample] = other
        return self.take(batch, rows)


def _has(tensor: Tensor, axis: int) -> bool:
    return -tensor.dim() <= axis < tensor.dim()


def _selected(tensor: Tensor, axis: int, rows: Sequence[int]) -> Tensor:
    index = torch.tensor(list(rows), device=tensor.device, dtype=torch.long)
    chosen = tensor.detach().index_select(axis, index)
    return chosen.requires_grad_(tensor.requires_grad)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    try:
        if one.is_floating_point():
            return torch.equal(one.nan_to_num(0.0), other.nan_to_num(0.0)) and torch.equal(
                one.isnan(), other.isnan()
            )
        return torch.equal(one, other)
    except (RuntimeError, NotImplementedError):  # sparse, nested, ...
        return True


def fields(batch: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a batch that has names: a mapping, a dataclass, a named tuple."""
    if isinstance(batch, Mapping):
        yield from batch.items()
    elif isinstance(batch, tuple) and hasattr(batch, "_fields"):
        yield from zip(getattr(batch, "_fields", ()), batch)
    elif dataclasses.is_dataclass(batch):
        yield from ((f.name, getattr(batch, f.name)) for f in dataclasses.fields(batch))
