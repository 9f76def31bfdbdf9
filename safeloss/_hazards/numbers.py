"""Numbers that keep the rules of a layout, and the other numbers that people give instead."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from safeloss._contract.ctc import Labelling, WithinTargets, WithinTime
from safeloss._contract.patterns import Pattern
from safeloss._contract.suspicions import NormalisedOverClasses, NotProbabilities, NotSoftmax
from safeloss._contract.values import (
    Between,
    ClassIndex,
    ClassSet,
    LogProbability,
    NotNaN,
    NotNegative,
    Sign,
    SumToOne,
)
from safeloss._hazards.grid import Axes


class Draw(NamedTuple):
    """What numbers of one input are drawn from."""

    axes: Axes
    sizes: Mapping[str, int]
    generator: torch.Generator
    kind: str  # "Float", as the layout says

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sizes[axis] for axis in self.axes)

    @property
    def classes(self) -> int:
        """Where the classes are; the last axis if none is named so."""
        return self.axes.index("C") if "C" in self.axes else len(self.axes) - 1

    def normal(self) -> Tensor:
        return torch.randn(self.shape, generator=self.generator, dtype=torch.float64)

    def uniform(self) -> Tensor:
        """Between 0.1 and 0.9."""
        uniform = torch.rand(self.shape, generator=self.generator, dtype=torch.float64)
        return 0.1 + 0.8 * uniform

    def below(self, end: int, start: int = 0) -> Tensor:
        return torch.randint(start, end, self.shape, generator=self.generator)


def _log_probabilities(draw: Draw) -> Tensor:
    return draw.normal().log_softmax(draw.classes) if "C" in draw.axes else draw.uniform().log()


def _probabilities_or_labels(draw: Draw) -> Tensor:
    return draw.uniform() if draw.kind == "Float" else draw.uniform().round()


def _indices(draw: Draw) -> Tensor:
    """Every class stands somewhere: one that does not cannot show that they are counted from 1."""
    return draw.uniform().flatten().argsort().reshape(draw.shape) % draw.sizes["C"]


def _class_sets(draw: Draw) -> Tensor:
    if "C" not in draw.axes:
        return draw.below(1)
    sets = draw.uniform().argsort(draw.classes)
    sets.narrow(draw.classes, -1, 1).fill_(-1)
    return sets


def _missing(numbers: Tensor) -> Tensor:
    """The same with NaN in place of the first."""
    first = torch.arange(numbers.numel()).reshape(numbers.shape) == 0
    return numbers.where(~first, torch.nan)


# By the first rule that a layout has, numbers that keep it; scores where it has none.
NUMBERS: dict[type, Callable[[Draw], Tensor]] = {
    Between: _probabilities_or_labels,
    Sign: lambda draw: draw.normal().sign(),
    LogProbability: _log_probabilities,
    NotNegative: Draw.uniform,
    ClassIndex: _indices,
    ClassSet: _class_sets,
    SumToOne: lambda draw: draw.normal().softmax(draw.classes),
    Labelling: lambda draw: draw.below(draw.sizes["C"], start=1),
    WithinTime: lambda draw: torch.full(draw.shape, draw.sizes["T"]),
    WithinTargets: lambda draw: torch.full(draw.shape, draw.sizes["S"]),
}


class Slip(NamedTuple):
    """Numbers in another convention than that of a rule, made from those that are meant."""

    rule: type
    what: str
    made: Callable[[Tensor], Tensor]
    known: bool = True  # what is meant is a call of this loss
    first: bool = False  # made in the predictions

    def breaks(self, pattern: Pattern) -> bool:
        return any(isinstance(rule, self.rule) for rule in pattern.rules)


SLIPS = (
    Slip(Between, "labels as integers", Tensor.long),
    Slip(Between, "labels as bool", Tensor.bool),
    Slip(Between, "labels in -1/1", lambda labels: labels * 2 - 1),
    Slip(Between, "labels in 1/2", lambda labels: labels + 1),
    Slip(Between, "scores before the sigmoid", torch.logit, first=True),
    Slip(NotProbabilities, "scores after a sigmoid", torch.sigmoid, first=True),
    Slip(NotSoftmax, "scores after a softmax", lambda x: x.softmax(1), first=True),
    Slip(LogProbability, "scores before the log-softmax", lambda x: x + 5, first=True),
    Slip(
        NormalisedOverClasses,
        "a log-softmax over the first axis",
        lambda x: x.log_softmax(0),
        first=True,
    ),
    Slip(Sign, "signs as integers", Tensor.long),
    Slip(Sign, "signs in 0/1", lambda signs: (signs + 1) / 2),
    Slip(Sign, "signs in 1/2", lambda signs: (signs + 3) / 2),
    Slip(ClassIndex, "class indices as int32", Tensor.int),
    Slip(ClassIndex, "class indices as floats", Tensor.double),
    Slip(ClassIndex, "class indices from 1", lambda index: index + 1),
    Slip(ClassIndex, "one-hot integers", torch.nn.functional.one_hot),
    Slip(ClassSet, "multi-hot integers", lambda sets: (sets >= 1).long(), known=False),
    Slip(SumToOne, "multi-hot", lambda shares: (shares > 0.2).double(), known=False),
    Slip(NotNaN, "a missing number is NaN", _missing, known=False),
    Slip(NotNegative, "negative targets or variances", Tensor.neg, known=False),
    Slip(ClassIndex, "every target is ignored", lambda index: index * 0 - 100, known=False),
    Slip(Labelling, "the blank among the labels", lambda labels: labels - 1, known=False),
    Slip(WithinTime, "lengths beyond the time axis", lambda lengths: lengths + 1, known=False),
)
