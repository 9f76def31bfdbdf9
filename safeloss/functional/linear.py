"""Cross entropy with the last layer inside. Imported only where torch has it: since 2.13."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from safeloss._contract import mistakes
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime.checked import checked
from safeloss.functional.classes import counts
from safeloss.layouts import (
    ClassIndices,
    ClassProbabilities,
    Denominator,
    Features,
    LinearBias,
    LinearWeight,
    OneSample,
    PerClass,
    SampleMask,
    SampleWeights,
)


@checked(native=F.linear_cross_entropy, mistakes=mistakes.LINEAR_CROSS_ENTROPY, counts=counts)
def linear_cross_entropy(
    input: Features | OneSample[Features],
    linear_weight: LinearWeight,
    target: ClassIndices
    | OneSample[ClassIndices]
    | ClassProbabilities
    | OneSample[ClassProbabilities],
    *,
    linear_bias: LinearBias | None = None,
    weight: PerClass | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "batch *space"] | Float[Tensor, "*space"]:
    """`torch.nn.functional.linear_cross_entropy`, with every row meeting its own class.

    Targets are class indices (any integer dtype) or, floating and of the shape of the class
    scores, class probabilities.

    Raises:
        LayoutError: the shapes do not fit, or one class.
        DTypeError: floating class indices, or one-hot integers.
        ValueRangeError: an index that is no class, probabilities that do not sum to 1, where
            values are read; with `empty="raise"` also a mean of which every target is ignored.
    """
    return F.linear_cross_entropy(
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        weight=weight,
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        options=options,
    )
