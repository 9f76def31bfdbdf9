"""Where, while a loss runs, two tensors repeat each other: `[B, 1]` and `[B]` give `[B, B]`."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._audit.probing import Probe, Samples
from safeloss._messages.stack import Line, is_users, users_line
from safeloss._torch import TorchDispatchMode, in_backward

_PRODUCTS = ("mul", "div")
_LINEAR = (*_PRODUCTS, "add", "sub", "rsub", "neg", "clone", "_to_copy")
_TOTALS = ("sum", "mean")
# What makes an axis of size 1 where somebody asks for it, so that repeating may be meant.
_MAKERS = ("unsqueeze", "view", "_unsafe_view", "reshape", "expand")
_MATRICES = ("mm", "addmm", "bmm", "baddbmm", "mv", "dot")  # whose factors are turned for them
_TURNERS = ("t", "transpose", "permute", "view", "reshape")  # which move it


class Axis(NamedTuple):
    """What a loss did to give a tensor an axis of size 1, or another place for one."""

    tensor: Tensor  # kept alive, so that its `id` is not given to another
    line: Line | None
    turned: bool = False  # it was there before, at another place


class Crossing(NamedTuple):
    """An element-wise operation whose two operands are both repeated, on the way to the loss."""

    operation: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    result: tuple[int, ...]
    spread: tuple[int, int]  # the sizes to which each of the two is repeated
    asked: bool  # an axis of size 1 was made for it: `x[:, None]`, `view(-1, 1)`
    learnt: tuple[bool, ...]  # which operands depend on the input
    line: Line | None
    mirrored: bool = False  # one was given an axis, and the other has lost one
    for_scores: bool = False  # it was given to what meets one prediction for each sample, elsewhere
    combined: bool = False  # with other pairs, as squared lengths with products: distances
    averaged: bool = False  # products that are only added up: the product of two sums

    @property
    def counts(self) -> bool:
        """Whether the loss depends on it."""
        return any(self.learnt) or self.averaged

    @property
    def explicit(self) -> bool:
        """Whether each operand was given an axis for the other: `x[:, None]` and `y[None]`."""
        return self.asked and len(self.shapes[0]) == len(self.shapes[1])

    @property
    def meant(self) -> bool:
        """Whether the loss itself makes all meet all, whatever the shapes of its arguments.

        An axis that one got while the other lost its own was not made for this, nor was one that
        the targets got on an earlier line than that where they meet one prediction for each sample.
        """
        if self.combined or self.explicit:
            return True
        return self.asked and not (self.mirrored or self.for_scores)

    @property
    def stumbled(self) -> bool:
        """Whether predictions are repeated, and nothing in the loss is made for it.

        An axis of size 1 that a `keepdim=True` left is made for something else, unless what comes
        of it meets other pairs.
        """
        return any(self.learnt) and not (self.asked or self.combined)

    def __str__(self) -> str:
        first, second = (list(shape) for shape in self.shapes)
        place = "" if self.line is None else f", in `{self.line.text}`"
        return f"{first} meets {second} and both are stretched to {list(self.result)}{place}."


class Crossings(NamedTuple):
    """Those of a batch, and of them those that grow with the batch along both axes."""

    all: tuple[Crossing, ...] = ()
    of_samples: tuple[Crossing, ...] = ()


def crossings(probe: Probe, samples: Samples) -> Crossings:
    """What meets crosswise on a batch and, to tell samples from classes, on one sample more."""
    rows = list(range(samples.size))
    here, there = _seen(probe, samples), _seen(probe, samples.take([*rows, 0]))
    grown = {_shares(crossing, samples.size + 1) for crossing in there}
    return Crossings(tuple(here), tuple(c for c in here if _shares(c, samples.size) in grown))


def _shares(crossing: Crossing, size: int) -> tuple[str, Fraction, Fraction]:
    first, second = crossing.spread
    return crossing.operation, Fraction(first, size), Fraction(second, size)


def _seen(probe: Probe, samples: Samples) -> list[Crossing]:
    watcher = _Watcher(outside=users_line())
    with contextlib.suppress(Exception), watcher:  # whatever the loss raises on these samples
        probe(samples)
    return [
        crossing._replace(combined=number in watcher.combined, averaged=number in watcher.averaged)
        for number, crossing in enumerate(watcher.found)
    ]


class _Watcher(TorchDispatchMode):
    """Sees every operation, also those inside torch's own functions."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to keep Dynamo away would import it, and nothing is compiled here

    def __init__(self, outside: Line | None) -> None:
        super().__init__()
        self._outside = outside  # the line that asks for the audit, which is no line of the loss
        self.found: list[Crossing] = []
        self.averaged: set[int] = set()  # those found of which a total was taken
        self.combined: set[int] = set()  # those that met other pairs
        # By `id`, with the tensor itself: kept alive, so that no number is given twice.
        self._asked: dict[int, Axis] = {}
        self._lost: dict[int, Tensor] = {}  # those that had an axis of size 1
        self._pairs: dict[int, tuple[Tensor, frozenset[int]]] = {}  # what came of them
        self._products: dict[int, tuple[Tensor, frozenset[int]]] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and not in_backward():
            tensors, name = list(_tensors((*args, *kwargs.values()))), func.overloadpacket.__name__
            found = len(self.found)
            if torch.Tag.pointwise in func.tags or name.endswith("_loss"):
                for pair in combinations(tensors, 2):
                    if (spread := _spread(*pair)) is not None:
                        self._note(name, pair, spread)
            new = range(found, len(self.found))
            self._follow_axes(name, tensors, result)
            self._follow_pairs(tensors, result, new)
            self._follow_products(name, tensors, result, new)
            if name in _TOTALS and tensors[0].requires_grad:
                self._total(tensors[0], args[1] if len(args) > 1 else None)
        return result

    def _note(self, name: str, pair: tuple[Tensor, Tensor], spread: tuple[int, int]) -> None:
        shapes, line = (_own_shape(pair[0]), _own_shape(pair[1])), users_line()
        asked = [self._asked.get(id(tensor)) for tensor in pair]
        lost = [id(tensor) in self._lost for tensor in pair]
        learnt = [tensor.requires_grad for tensor in pair]
        sides = [(0, 1), (1, 0)]
        self.found.append(
            Crossing(
                name,
                shapes,
                tuple(torch.broadcast_shapes(*shapes)),
                spread,
                any(axis is not None for axis in asked),
                tuple(learnt),
                None if line == self._outside else line,
                any(asked[a] and lost[b] and not lost[a] for a, b in sides),
                any(
                    axis is not None
                    and axis.line != line
                    and (learnt[a], learnt[b], pair[b].dim()) == (False, True, 1)
                    for (a, b), axis in zip(sides, asked)
                ),
            )
        )

    def _follow_axes(self, name: str, tensors: list[Tensor], result: Tensor) -> None:
        """Whether an axis of size 1 was asked for, here or before, and whether one was removed."""
        ones = [tensor.shape.count(1) for tensor in tensors]
        # PyTorch's own losses expand what they are given.
        repeats = name == "expand" and is_users(sys._getframe(2).f_code.co_filename)
        before = [self._asked[id(t)] for t in tensors if id(t) in self._asked]
        if ones and (repeats or (name in _MAKERS and result.shape.count(1) > max(ones))):
            self._asked[id(result)] = Axis(result, users_line())
        elif ones and name in _TURNERS and 1 in result.shape and result.shape != tensors[0].shape:
            self._asked[id(result)] = Axis(result, users_line(), turned=True)
        elif kept := [axis for axis in before if not axis.turned or name not in _MATRICES]:
            self._asked[id(result)] = kept[0]._replace(tensor=result)
        removed = any(
            result.shape.count(1) < n and result.numel() == t.numel() for n, t in zip(ones, tensors)
        )
        if removed or any(id(t) in self._lost for t in tensors):
            self._lost[id(result)] = result

    def _follow_pairs(self, tensors: list[Tensor], result: Tensor, new: range) -> None:
        """Which crossings a tensor of pairs came of, and whether they meet other pairs."""
        known = {n for t in tensors for n in self._pairs.get(id(t), (t, ()))[1]}
        elsewhere = [t for t in tensors if id(t) not in self._pairs]
        meets = any(t.shape == result.shape for t in elsewhere)
        if meets or len({*map(id, tensors)}) > 2:  # `addmm`
            self.combined.update(n for n in known if self.found[n].result == result.shape)
        if known or new:
            self._pairs[id(result)] = result, frozenset({*known, *new})

    def _follow_products(
        self, name: str, tensors: list[Tensor], result: Tensor, new: range
    ) -> None:
        """Which products of all with all a tensor is made of, and of nothing else."""
        if name not in _LINEAR:
            return
        known = {n for t in tensors for n in self._products.get(id(t), (t, ()))[1]}
        whole = [t for t in tensors if id(t) not in self._products and t.shape == result.shape]
        if name in _PRODUCTS:
            known.update(n for n in new if not self.found[n].explicit)
        if known and not whole:
            self._products[id(result)] = result, frozenset(known)

    def _total(self, of: Tensor, axes: Any) -> None:
        """A sum or a mean: of which products it adds up those of one sample with all others."""
        dims = {axis % of.dim() for axis in axes} if axes else set(range(of.dim()))
        for number in self._products.get(id(of), (of, ()))[1]:
            shapes = self.found[number].shapes
            sizes = zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1)
            crossed = {of.dim() - 1 - k for k, (a, b) in enumerate(sizes) if 1 in (a, b) and a != b}
            if crossed & dims:
                self.averaged.add(number)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _own_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape before an expansion, as torch's losses expand what they are given."""
    return tuple(1 if stride == 0 else size for size, stride in zip(tensor.shape, tensor.stride()))


def _spread(one: Tensor, other: Tensor) -> tuple[int, int] | None:
    """The sizes along which each repeats the other, if both do."""
    sizes = list(zip_longest(_own_shape(one)[::-1], _own_shape(other)[::-1], fillvalue=1))
    first = [b for a, b in sizes if a == 1 < b]
    second = [a for a, b in sizes if b == 1 < a]
    return (max(first), max(second)) if first and second else None
