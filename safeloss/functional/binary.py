"""Losses for yes/no questions: one score and one label each."""

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from safeloss._contract import mistakes
from safeloss._contract.options import CheckValues, ClassDim, Empty, Reduction
from safeloss._runtime import operators
from safeloss._runtime.checked import checked
from safeloss.layouts import (
    Denominator,
    ExactLabels,
    Labels,
    LabelScores,
    LabelTargets,
    LabelWeights,
    MultiHot,
    MultiLabelScores,
    OneSample,
    PerLabel,
    PerPositiveLabel,
    PerPositiveScore,
    PerScore,
    Predictions,
    Probabilities,
    SampleMask,
    SampleWeights,
    Scores,
    Signs,
    SignScores,
)


@checked(
    native=F.binary_cross_entropy,
    operator=operators.BINARY_CROSS_ENTROPY,
    mistakes=mistakes.PROBABILITIES,
)
def binary_cross_entropy(
    input: Probabilities,
    target: ExactLabels,
    weight: PerScore | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "*shape"]:
    """`torch.nn.functional.binary_cross_entropy`, with every probability meeting its label.

    Labels may be bool, integer or floating. A 1-D `weight` is read on the last axis, and at rank 3
    and more only where it cannot be meant for axis 1, unless `class_dim` says which.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a probability or a label outside [0, 1], where values are read.
    """
    return F.binary_cross_entropy(input, target, weight, size_average, reduce, reduction)


@checked(
    native=F.binary_cross_entropy_with_logits,
    operator=operators.BINARY_CROSS_ENTROPY_WITH_LOGITS,
    mistakes=mistakes.LOGITS,
)
def binary_cross_entropy_with_logits(
    input: Scores,
    target: Labels,
    weight: PerScore | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    pos_weight: PerPositiveScore | None = None,
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "*shape"]:
    """`torch.nn.functional.binary_cross_entropy_with_logits`, with every score meeting its label.

    Labels may be bool, integer or floating. A 1-D `weight` or `pos_weight` is read on the last
    axis, and at rank 3 and more only where it cannot be meant for axis 1, unless `class_dim`
    says which.

    Raises:
        LayoutError: the shapes do not fit (`AmbiguousLayoutError`: or fit twice).
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a label outside [0, 1], where values are read.

    >>> binary_cross_entropy_with_logits(torch.zeros(8, 1), torch.ones(8))
    tensor(0.6931)
    """
    return F.binary_cross_entropy_with_logits(
        input, target, weight, size_average, reduce, reduction, pos_weight
    )


@checked(
    native=F.binary_cross_entropy_with_logits,
    operator=operators.MULTI_LABEL,
    mistakes=mistakes.MULTI_LABEL,
)
def multilabel_binary_cross_entropy(
    input: MultiLabelScores | OneSample[MultiLabelScores],
    target: MultiHot | OneSample[MultiHot],
    weight: PerLabel | OneSample[PerLabel] | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    pos_weight: PerPositiveLabel | OneSample[PerPositiveLabel] | None = None,
    *,
    label_smoothing: float = 0.0,
    num_classes: int | None = None,
    class_dim: ClassDim = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "batch classes"] | Float[Tensor, " classes"]:
    """Binary cross entropy on `[batch, classes]`: several yes/no questions about each sample.

    The mean equals `torch.nn.functional.multilabel_soft_margin_loss` in one fused operation.
    With `label_smoothing` the labels `y` are `y (1 - s) + s / 2`, as in Keras. `num_classes` binds
    the class axis, and then one sample may come without a batch axis. `class_dim` is accepted as
    elsewhere; on two axes both values name the same one.

    Raises:
        LayoutError: class indices, one class, `[batch]`, or shapes that do not fit.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a label outside [0, 1], where values are read.

    >>> multilabel_binary_cross_entropy(torch.zeros(8, 3), torch.ones(8, 3, dtype=torch.bool))
    tensor(0.6931)
    """
    target = operators.smoothed(target, label_smoothing)
    return F.binary_cross_entropy_with_logits(
        input, target, weight, size_average, reduce, reduction, pos_weight
    )


@checked(native=F.multilabel_soft_margin_loss, mistakes=mistakes.LOGITS, mean_over="classes")
def multilabel_soft_margin_loss(
    input: LabelScores,
    target: LabelTargets,
    weight: LabelWeights | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "*batch"]:
    """`torch.nn.functional.multilabel_soft_margin_loss`, with every score meeting its label.

    Torch broadcasts here, and its result has the right shape all the same. On `[batch, classes]`
    `multilabel_binary_cross_entropy` computes the same mean in one fused operation.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a label outside [0, 1], where values are read.
    """
    return F.multilabel_soft_margin_loss(input, target, weight, size_average, reduce, reduction)


@checked(native=F.soft_margin_loss, operator=operators.SOFT_MARGIN_LOSS)
def soft_margin_loss(
    input: SignScores,
    target: Signs,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.soft_margin_loss`, with every score meeting its sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """
    return F.soft_margin_loss(input, target, size_average, reduce, reduction)


@checked(native=F.hinge_embedding_loss, operator=operators.HINGE_EMBEDDING_LOSS)
def hinge_embedding_loss(
    input: Predictions,
    target: Signs,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.hinge_embedding_loss`, with every distance meeting its sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """
    return F.hinge_embedding_loss(input, target, margin, size_average, reduce, reduction)
