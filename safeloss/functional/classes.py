"""Losses for one of several classes, or for a set of them."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from safeloss._contract import mistakes
from safeloss._contract.options import (
    CheckValues,
    ClassDim,
    Empty,
    Reduction,
    ignored,
)
from safeloss._runtime import operators
from safeloss._runtime.checked import checked
from safeloss.layouts import (
    ClassIndices,
    ClassLogProbabilities,
    ClassProbabilities,
    ClassScores,
    ClassSets,
    Denominator,
    MarginScores,
    MarginWeights,
    OneSample,
    PerClass,
    RowClasses,
    SampleClass,
    SampleMask,
    SampleWeights,
)


def counts(target: Tensor, weight: Tensor | None, ignore_index: int | None) -> Tensor | None:
    """The class weight of the target, 0 for `ignore_index`; with class probabilities 1."""
    if target.is_floating_point():
        return None
    counted = target != ignored(ignore_index)
    if weight is None:
        return counted
    return torch.where(counted, weight[torch.where(counted, target, 0)], 0)


@checked(
    native=F.cross_entropy,
    operator=operators.CROSS_ENTROPY,
    mistakes=mistakes.CROSS_ENTROPY,
    counts=counts,
)
def cross_entropy(
    input: ClassScores | OneSample[ClassScores],
    target: ClassIndices
    | OneSample[ClassIndices]
    | ClassProbabilities
    | OneSample[ClassProbabilities],
    weight: PerClass | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "batch *space"] | Float[Tensor, ""]:
    """`torch.nn.functional.cross_entropy`, with the softmax over the classes and nothing else.

    Targets are class indices (any integer dtype) or, floating and of the shape of the scores,
    class probabilities. Where the classes are the last axis of three or more, say so by
    `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit, or one class, or a softmax over the batch
            (`AmbiguousLayoutError`: the classes may be axis 1 or the last).
        DTypeError: floating class indices, or one-hot integers.
        ValueRangeError: an index that is no class, probabilities that do not sum to 1, where
            values are read; with `empty="raise"` also a mean of which every target is ignored.

    >>> cross_entropy(torch.zeros(8, 3), torch.zeros(8, dtype=torch.uint8))
    tensor(1.0986)
    """
    return F.cross_entropy(
        input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing
    )


@checked(native=F.nll_loss, operator=operators.NLL_LOSS, mistakes=mistakes.NLL, counts=counts)
def nll_loss(
    input: ClassLogProbabilities | OneSample[ClassLogProbabilities],
    target: ClassIndices | OneSample[ClassIndices],
    weight: PerClass | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "batch *space"] | Float[Tensor, ""]:
    """`torch.nn.functional.nll_loss`, on log-probabilities over the classes and nothing else.

    Targets are class indices of any integer dtype. Where the classes are the last axis of three
    or more, say so by `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit, or one class (`AmbiguousLayoutError`: the classes may
            be axis 1 or the last).
        DTypeError: floating class indices, or one number per class.
        ValueRangeError: positive inputs, an index that is no class, where values are read; with
            `empty="raise"` also a mean of which every target is ignored.
    """
    return F.nll_loss(input, target, weight, size_average, ignore_index, reduce, reduction)


@checked(
    native=F.multi_margin_loss,
    operator=operators.MULTI_MARGIN_LOSS,
    mistakes=mistakes.MULTI_MARGIN,
    undefined_if_empty=True,
)
def multi_margin_loss(
    input: MarginScores | OneSample[MarginScores],
    target: RowClasses | OneSample[RowClasses] | SampleClass,
    p: float = 1,  # PyTorch takes 1.0 too, and refuses all but 1 and 2
    margin: float = 1.0,
    weight: MarginWeights | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, " batch"] | Float[Tensor, ""]:
    """`torch.nn.functional.multi_margin_loss`, with class indices of any integer dtype.

    The mean over an empty batch is NaN; PyTorch returns uninitialised memory.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: an index that is no class, where values are read.
    """
    exponent: Any = p
    return F.multi_margin_loss(
        input, target, exponent, margin, weight, size_average, reduce, reduction
    )


@checked(
    native=F.multilabel_margin_loss,
    operator=operators.MULTILABEL_MARGIN_LOSS,
    mistakes=mistakes.MULTILABEL_MARGIN,
    undefined_if_empty=True,
)
def multilabel_margin_loss(
    input: MarginScores | OneSample[MarginScores],
    target: ClassSets | OneSample[ClassSets],
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, " batch"] | Float[Tensor, ""]:
    """`torch.nn.functional.multilabel_margin_loss`, on sets of class indices that end at -1.

    The mean over an empty batch is NaN; PyTorch returns uninitialised memory.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: an index that is no class and not -1, where values are read.
    """
    return F.multilabel_margin_loss(input, target, size_average, reduce, reduction)
