"""What the numbers in a layout must be: rules as data, each with the words for a message.

A layout carries its rules (`Annotated[Float[Tensor, ...], Between(0, 1)]`). Reading a tensor
costs time, and on a GPU it waits for the device; when to do it is `check_values`' to say.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._options import ignored_index


class Seen(NamedTuple):
    """The call whose values are read: its arguments as native gets them, and all that is known."""

    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    axes: Mapping[str, Any]

    @property
    def ignored(self) -> int | None:
        return ignored_index(self.options)


class _Note:
    """What a layout says of its numbers; without data of its own, equal to all of its kind."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Rule(_Note, abc.ABC):
    """What every number of a tensor must be; one that is not is a `ValueRangeError`."""

    # What may mend it, offered if it does: edits of the argument (`{0}`; `{axis}` is the axis of
    # the classes) and whole calls, each with the values it is meant for, and options to be added.
    fixes: tuple[tuple[str, frozenset[float] | None], ...] = ()
    options: tuple[str, ...] = ()

    @abc.abstractmethod
    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        """True where the rule is broken, in the shape of `values`, or one verdict for all."""

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        """What stands at `index`, the first place where it is broken; `axis` holds the classes."""
        return f"{values[tuple(index)].item():g}"


class Suspicion(_Note, abc.ABC):
    """What is legal and very likely a mistake; it warns."""

    least = 16  # elements; fewer may look like anything

    @abc.abstractmethod
    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        """Whether to warn of `values`."""


@dataclass(frozen=True)
class Between(Rule):
    low: float
    high: float
    fixes: tuple[tuple[str, frozenset[float] | None], ...] = (
        ("({0} + 1) / 2", frozenset({-1.0, 1.0})),
        ("{0} - 1", frozenset({1.0, 2.0})),
        ("{0} / 255", frozenset({0.0, 255.0})),
    )

    def __str__(self) -> str:
        return f"must lie in [{self.low:g}, {self.high:g}]"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return torch.logical_not((values >= self.low) & (values <= self.high))  # NaN too


class Sign(Rule):
    fixes = (
        ("{0} * 2 - 1", frozenset({0.0, 1.0})),
        ("{0} * 2 - 3", frozenset({1.0, 2.0})),
    )

    def __str__(self) -> str:
        return "must be -1 or 1"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return (values != 1) & (values != -1)


class LogProbability(Rule):
    fixes = (("{0}.log_softmax({axis})", None),)

    def __str__(self) -> str:
        return "must be log-probabilities, which are not positive"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        # Rounding leaves the logarithm of a certainty an ulp above 0.
        return torch.logical_not(values <= 8 * torch.finfo(values.dtype).eps)


@dataclass(frozen=True)
class NotNegative(Rule):
    unless: str = ""  # an option: where it is set, the numbers are logarithms

    def __str__(self) -> str:
        return "must not be negative"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        if self.unless and seen.options[self.unless]:
            return torch.isnan(values)
        return torch.logical_not(values >= 0)


class NotNaN(Rule):
    def __str__(self) -> str:
        return "must be numbers: leave missing targets out, as in the recipe of docs/limits.md"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return torch.isnan(values)


class ClassSet(Rule):
    def __str__(self) -> str:
        return "must be class indices, and then -1"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return (values < -1) | (values >= seen.axes["classes"])


class Labelling(Rule):
    """The labels of `CTCLoss`, of which the padding is never read."""

    def __str__(self) -> str:
        return "must be class indices, and not `blank`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        lengths = seen.arguments["target_lengths"]
        counted = torch.ones_like(values, dtype=torch.bool)
        if values.dim() > 1:
            lengths = torch.as_tensor(lengths, device=values.device)
            counted = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
        outside = (values < 0) | (values >= seen.axes["classes"])
        return counted & (outside | (values == seen.options["blank"]))


class WithinTime(Rule):
    def __str__(self) -> str:
        return "must lie between 0 and the size of the time axis of `log_probs`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return (values < 0) | (values > seen.axes["time"])


class WithinTargets(Rule):
    def __str__(self) -> str:
        return "must lie between 0 and the length of `targets`, or add up to it"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        targets = seen.arguments["targets"]
        if targets.dim() > 1 or "batch" not in seen.axes:
            return (values < 0) | (values > targets.shape[-1])
        return (values < 0) | (values.sum() != targets.shape[0])


class ClassIndex(Rule):
    fixes = (("{0} - 1", None),)
    options = ("ignore_index={value}",)

    def __str__(self) -> str:
        return "must be class indices, from 0 to the number of classes - 1, or `ignore_index`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        outside = (values < 0) | (values >= seen.axes["classes"])
        return outside if seen.ignored is None else outside & (values != seen.ignored)


class SumToOne(Rule):
    fixes = (("MultiLabelBCE()(input, target)", frozenset({0.0, 1.0})),)
    options = ("class_dim=-1",)

    def __str__(self) -> str:
        return "must be probabilities: not negative, and summing to 1 over the classes"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        classes = 1 if values.dim() > 1 else 0
        tolerance = max(1e-4, 8 * torch.finfo(values.dtype).eps)
        unnormalised = ~((values.sum(classes, keepdim=True) - 1).abs() <= tolerance)
        return ~(values >= 0) | unnormalised

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        others = tuple(i for d, i in enumerate(index) if d != axis)
        total = values.movedim(axis, -1)[others].sum().item()
        return f"{super().found(values, index, axis)}, where the classes sum to {total:g}"


class NotProbabilities(Suspicion):
    def __str__(self) -> str:
        return (
            "lies in [0, 1] throughout, as after a sigmoid. This loss applies the sigmoid itself: "
            "pass the raw scores"
        )

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        low, high = values.aminmax()
        return (low >= 0) & (high <= 1) & (low < high)


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


class NotMultiHot(Suspicion):
    def __str__(self) -> str:
        return (
            "holds nothing but 0 and 1, as multi-hot labels do. This loss takes the indices of "
            "the classes, and then -1"
        )

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        # Of three classes and more, 0 and 1 cannot fill a row unless one of them stands twice.
        return ((values == 0) | (values == 1)).all() & torch.tensor(seen.axes["classes"] > 2)


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
