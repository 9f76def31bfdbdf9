"""Losses on pairs and triplets: which is more, which are alike."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime import operators
from safeloss._runtime.checked import checked
from safeloss.layouts import (
    Denominator,
    Embeddings,
    EmbeddingSigns,
    OneSample,
    Points,
    Predictions,
    SampleMask,
    SampleWeights,
    Signs,
)


@checked(native=F.margin_ranking_loss, operator=operators.MARGIN_RANKING_LOSS)
def margin_ranking_loss(
    input1: Predictions,
    input2: Predictions,
    target: Signs,
    margin: float = 0,
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
    """`torch.nn.functional.margin_ranking_loss`, with every pair meeting its sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """
    return F.margin_ranking_loss(input1, input2, target, margin, size_average, reduce, reduction)


@checked(native=F.cosine_embedding_loss, operator=operators.COSINE_EMBEDDING_LOSS)
def cosine_embedding_loss(
    input1: Embeddings | OneSample[Embeddings],
    input2: Embeddings | OneSample[Embeddings],
    target: EmbeddingSigns | OneSample[EmbeddingSigns],
    margin: float = 0,
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
    """`torch.nn.functional.cosine_embedding_loss`, with every pair meeting its sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """
    return F.cosine_embedding_loss(input1, input2, target, margin, size_average, reduce, reduction)


@checked(native=F.triplet_margin_loss, operator=operators.TRIPLET_MARGIN_LOSS)
def triplet_margin_loss(
    anchor: Points,
    positive: Points,
    negative: Points,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
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
    """`torch.nn.functional.triplet_margin_loss`, with every anchor meeting its own two points.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
    """
    return F.triplet_margin_loss(
        anchor, positive, negative, margin, p, eps, swap, size_average, reduce, reduction
    )


@checked(native=F.triplet_margin_with_distance_loss)
def triplet_margin_with_distance_loss(
    anchor: Predictions,
    positive: Predictions,
    negative: Predictions,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: Reduction = "mean",
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "..."]:
    """`torch.nn.functional.triplet_margin_with_distance_loss`, on three inputs of one shape.

    Raises:
        LayoutError: the shapes do not fit together.
    """
    return F.triplet_margin_with_distance_loss(
        anchor,
        positive,
        negative,
        distance_function=distance_function,
        margin=margin,
        swap=swap,
        reduction=reduction,
    )
