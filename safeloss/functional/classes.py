"""Losses for one of several classes, or for a set of them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._checked import checked, checked_mean
from safeloss._options import (
    CheckValues,
    ClassDim,
    DefinedEmpty,
    Empty,
    Reduction,
    ignored_index,
)
from safeloss.layouts import (
    ClassIndices,
    ClassLogProbabilities,
    ClassProbabilities,
    ClassScores,
    ClassSets,
    MarginScores,
    MarginWeights,
    PerClass,
    RowClasses,
    SampleClassIndex,
    SampleClassLogProbabilities,
    SampleClassProbabilities,
    SampleClassScores,
    SampleClassSet,
    SampleMarginScores,
    SampleRowClass,
)


def total_weight(arguments: dict[str, Any]) -> Tensor:
    """What the mean over class indices divides by: the weight of all targets that count."""
    target, weight = arguments["target"], arguments["weight"]
    counts = target != ignored_index(arguments)
    if weight is None:
        return torch.sum(counts)
    return torch.where(counts, weight[torch.where(counts, target, 0)], 0).sum()


@checked_mean(total=total_weight)
def cross_entropy(
    input: ClassScores | SampleClassScores,
    target: ClassIndices | SampleClassIndex | ClassProbabilities | SampleClassProbabilities,
    weight: PerClass | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "never",
    empty: Empty = "raise",
) -> Tensor:
    """`torch.nn.functional.cross_entropy`, with the softmax over the classes and nothing else.

    Targets are class indices (any integer dtype) or, floating and of the shape of the scores,
    class probabilities. Where the classes are the last axis of three or more, say so by
    `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit, or one class, or a softmax over the batch
            (`AmbiguousLayoutError`: the classes may be axis 1 or the last).
        DTypeError: floating class indices, or one-hot integers.
        ValueRangeError: with `check_values="always"`, an index that is no class, probabilities
            that do not sum to 1, or a mean of which every target is ignored.

    >>> cross_entropy(torch.zeros(8, 3), torch.zeros(8, dtype=torch.uint8))
    tensor(1.0986)
    """
    return F.cross_entropy(
        input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing
    )


@checked_mean(total=total_weight)
def nll_loss(
    input: ClassLogProbabilities | SampleClassLogProbabilities,
    target: ClassIndices | SampleClassIndex,
    weight: PerClass | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "never",
    empty: Empty = "raise",
) -> Tensor:
    """`torch.nn.functional.nll_loss`, on log-probabilities over the classes and nothing else.

    Targets are class indices of any integer dtype. Where the classes are the last axis of three
    or more, say so by `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit, or one class (`AmbiguousLayoutError`: the classes may
            be axis 1 or the last).
        DTypeError: floating class indices, or one number per class.
        ValueRangeError: with `check_values="always"`, positive inputs, an index that is no class,
            or a mean of which every target is ignored.
    """
    return F.nll_loss(input, target, weight, size_average, ignore_index, reduce, reduction)


@checked
def multi_margin_loss(
    input: MarginScores | SampleMarginScores,
    target: RowClasses | SampleRowClass,
    p: int = 1,
    margin: float = 1.0,
    weight: MarginWeights | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "never",
    empty: DefinedEmpty = "raise",
) -> Tensor:
    """`torch.nn.functional.multi_margin_loss`, with class indices of any integer dtype.

    A mean over an empty batch is refused, or 0: torch returns what memory holds.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: an element type that is not declared.
        ValueRangeError: with `check_values="always"`, an index that is no class.
    """
    return F.multi_margin_loss(input, target, p, margin, weight, size_average, reduce, reduction)


@checked
def multilabel_margin_loss(
    input: MarginScores | SampleMarginScores,
    target: ClassSets | SampleClassSet,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "never",
    empty: DefinedEmpty = "raise",
) -> Tensor:
    """`torch.nn.functional.multilabel_margin_loss`, on sets of class indices that end at -1.

    A mean over an empty batch is refused, or 0: torch returns what memory holds.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: an element type that is not declared.
        ValueRangeError: with `check_values="always"`, an index that is no class and not -1.
    """
    return F.multilabel_margin_loss(input, target, size_average, reduce, reduction)
