"""What the numbers in a layout must be: rules as data, each with the words for a message.

A layout carries its rules (`Annotated[Float[Tensor, ...], Between(0, 1)]`). Reading a tensor
costs time, and on a GPU it waits for the device; when to do it is `check_values`' to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Seen(NamedTuple):
    """The call whose values are read: its arguments as native gets them, and all that is known."""

    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    axes: Mapping[str, Any]

    @property
    def mean(self) -> bool:
        return self.options.get("reduction") in ("mean", "batchmean")


class Rule:
    """What every number of a tensor must be; one that is not is a `ValueRangeError`."""

    # What may mend it, offered if it does: edits of the argument (`{0}`; `{axis}` is the class
    # axis) and whole calls, each with the values it is meant for, and options to be added.
    fixes: tuple[tuple[str, frozenset[float] | None], ...] = ()
    options: tuple[str, ...] = ()

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        """True where the rule is broken, in the shape of `values`, or one verdict for all."""
        raise NotImplementedError

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        """What stands at `index`, the first place where it is broken; `axis` holds the classes."""
        return f"{values[tuple(index)].item():g}"


class Suspicion:
    """What is legal and very likely a mistake; it warns."""

    least = 16  # elements; fewer may look like anything

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Between(Rule):
    low: float
    high: float
    fixes = (
        ("({0} + 1) / 2", frozenset({-1.0, 1.0})),
        ("{0} - 1", frozenset({1.0, 2.0})),
        ("{0} / 255", frozenset({0.0, 255.0})),
    )

    def __str__(self) -> str:
        return f"must lie in [{self.low:g}, {self.high:g}]"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return torch.logical_not((values >= self.low) & (values <= self.high))  # NaN too


@dataclass(frozen=True)
class ClassIndex(Rule):
    fixes = (("{0} - 1", None),)
    options = ("ignore_index={value}",)

    def __str__(self) -> str:
        return "must be class indices, from 0 to the number of classes - 1, or `ignore_index`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        outside = (values < 0) | (values >= seen.axes["classes"])
        return outside & (values != seen.options["ignore_index"])


@dataclass(frozen=True)
class SomeCounted(Rule):
    options = ('empty="zero"',)

    def __str__(self) -> str:
        return "is `ignore_index` throughout, and a mean over nothing has no value"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        if seen.mean and seen.options["empty"] == "raise":
            return (values == seen.options["ignore_index"]).all()
        return values.new_zeros((), dtype=torch.bool)


@dataclass(frozen=True)
class SumToOne(Rule):
    fixes = (
        ("MultiLabelBCE()(input, target)", frozenset({0.0, 1.0})),
        ("{0} / {0}.sum({axis}, keepdim=True)", None),
        ("{0}.softmax({axis})", None),
    )

    def __str__(self) -> str:
        return "must be probabilities: not negative, and summing to 1 over the classes"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        classes = 1 if values.dim() > 1 else 0
        tolerance = max(1e-4, 8 * torch.finfo(values.dtype).eps)
        unnormalised = ~((values.sum(classes, keepdim=True) - 1).abs() <= tolerance)
        return ~(values >= 0) | unnormalised

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        total = values.movedim(axis, -1)[
            tuple(i for d, i in enumerate(index) if d != axis % values.dim())
        ]
        return (
            f"{super().found(values, index, axis)}, where the classes sum to {total.sum().item():g}"
        )


@dataclass(frozen=True)
class NotProbabilities(Suspicion):
    def __str__(self) -> str:
        return (
            "lies in [0, 1] throughout, as after a sigmoid. This loss applies the sigmoid itself: "
            "pass the raw scores"
        )

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        low, high = values.aminmax()
        return (low >= 0) & (high <= 1) & (low < high)


@dataclass(frozen=True)
class NotSoftmax(Suspicion):
    def __str__(self) -> str:
        return (
            "sums to 1 over the classes, as after a softmax. This loss applies the softmax "
            "itself: pass the raw scores"
        )

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        classes = 1 if values.dim() > 1 else 0
        tolerance = max(1e-5, 4 * torch.finfo(values.dtype).eps)
        close = (values.sum(classes) - 1).abs() <= tolerance
        return close.all() & (values >= 0).all() & (values.min() < values.max())


@dataclass(frozen=True)
class SomeWeight(Suspicion):
    least = 1

    def __str__(self) -> str:
        return "is 0 for every target of this batch, and the mean is 0 / 0"

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        target = seen.arguments["target"]
        if not seen.mean or target.is_floating_point() or seen.options["empty"] != "raise":
            return values.new_zeros((), dtype=torch.bool)
        counted = target[target != seen.options["ignore_index"]]
        return (values[counted] == 0).all() & torch.tensor(counted.numel() > 0)


class Broken(NamedTuple):
    """A rule that does not hold, and where: a mask, or one verdict for all."""

    rule: Rule
    mask: Tensor


def first_broken(values: Tensor, rules: tuple[Any, ...], seen: Seen) -> Broken | None:
    """The first of `rules` that `values` break."""
    for rule in rules:
        if isinstance(rule, Rule):
            mask = rule.broken(values, seen)
            if mask.any():
                return Broken(rule, mask)
    return None


def suspicions(values: Tensor, rules: tuple[Any, ...], seen: Seen) -> list[Suspicion]:
    """Those of `rules` that warn, and do."""
    doubts = [rule for rule in rules if isinstance(rule, Suspicion)]
    return [
        doubt for doubt in doubts if values.numel() >= doubt.least and doubt.holds(values, seen)
    ]
