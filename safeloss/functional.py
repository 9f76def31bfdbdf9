"""The losses as functions, named as in `torch.nn.functional`.

Each is a kernel: its signature says everything about shapes, element types and values, and its
body is one call. The first argument binds the axes, and every other input must have the shape
that its layout spells, up to axes of size 1 that are only inserted or only missing.

Besides torch's own parameters: `class_dim` says which axis of inputs of rank 3 and more holds
the classes (1, torch's convention, or -1); `check_values="always"` reads the numbers too; and
`empty` is what a mean over nothing is: an error ("raise"), a zero that is connected to the graph
("zero"), or torch's NaN ("nan").
"""

from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._checked import checked, checked_mean
from safeloss.layouts import (
    ClassIndices,
    ClassProbabilities,
    ClassScores,
    Labels,
    MultiHot,
    MultiLabelScores,
    PerClass,
    PerLabel,
    PerScore,
    SampleClassIndex,
    SampleClassProbabilities,
    SampleClassScores,
    SampleMultiHot,
    SamplePerLabel,
    SampleScores,
    Scores,
)

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "multilabel_binary_cross_entropy",
]

Reduction: TypeAlias = Literal["none", "mean", "sum"]
ClassDim: TypeAlias = Literal[1, -1] | None
CheckValues: TypeAlias = Literal["never", "always"]
Empty: TypeAlias = Literal["raise", "zero", "nan"]


@checked
def binary_cross_entropy_with_logits(
    input: Scores,
    target: Labels,
    weight: PerScore | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    pos_weight: PerScore | None = None,
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "never",
    empty: Empty = "raise",
) -> Tensor:
    """`torch.nn.functional.binary_cross_entropy_with_logits`, with every score meeting its label.

    Labels may be bool, integer or floating. A 1-D `weight` or `pos_weight` is read on the last
    axis, and at rank 3 and more only where it cannot be meant for axis 1, unless `class_dim`
    says which.

    Raises:
        LayoutError: the shapes do not fit (`AmbiguousLayoutError`: or fit twice).
        DTypeError: an element type that is not declared.
        ValueRangeError: with `check_values="always"`, a label outside [0, 1].

    >>> binary_cross_entropy_with_logits(torch.zeros(8, 1), torch.ones(8))
    tensor(0.6931)
    """
    return F.binary_cross_entropy_with_logits(
        input, target, weight, size_average, reduce, reduction, pos_weight
    )


@checked
def multilabel_binary_cross_entropy(
    input: MultiLabelScores | SampleScores,
    target: MultiHot | SampleMultiHot,
    weight: PerLabel | SamplePerLabel | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    pos_weight: PerLabel | SamplePerLabel | None = None,
    *,
    num_classes: int | None = None,
    class_dim: ClassDim = None,
    check_values: CheckValues = "never",
    empty: Empty = "raise",
) -> Tensor:
    """Binary cross entropy on `[batch, classes]`: several yes/no questions about each sample.

    The mean equals `torch.nn.functional.multilabel_soft_margin_loss` in one fused operation.
    `num_classes` binds the class axis, and then one sample may come without a batch axis.
    `class_dim` is accepted as elsewhere; on two axes both values name the same one.

    Raises:
        LayoutError: class indices, one class, `[batch]`, or shapes that do not fit.
        DTypeError: an element type that is not declared.
        ValueRangeError: with `check_values="always"`, a label outside [0, 1].

    >>> multilabel_binary_cross_entropy(torch.zeros(8, 3), torch.ones(8, 3, dtype=torch.bool))
    tensor(0.6931)
    """
    return F.binary_cross_entropy_with_logits(
        input, target, weight, size_average, reduce, reduction, pos_weight
    )


def _total_weight(arguments: dict[str, Any]) -> Tensor:
    """What the mean over class indices divides by: the weight of all targets that count."""
    target, weight = arguments["target"], arguments["weight"]
    counts = target != arguments["ignore_index"]
    if weight is None:
        return torch.sum(counts)
    return torch.where(counts, weight[torch.where(counts, target, 0)], 0).sum()


@checked_mean(total=_total_weight)
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
