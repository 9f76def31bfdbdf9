"""The loss of a layer that picks its classes: features in, class scores never seen."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from safeloss._contract.options import CheckValues, EmptyWithoutZero
from safeloss._runtime.checked import checked
from safeloss.layouts import (
    Denominator,
    Features,
    OneSample,
    RowClasses,
    SampleMask,
    SampleWeights,
)


@checked(unweighted="it gives a pair, so reduce its `output` by hand")
def adaptive_log_softmax_with_loss(
    input: Features | OneSample[Features],
    target: RowClasses | OneSample[RowClasses],
    layer: nn.AdaptiveLogSoftmaxWithLoss,
    *,
    in_features: int | None = None,
    num_classes: int | None = None,
    check_values: CheckValues = "first",
    empty: EmptyWithoutZero = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, " batch"] | Float[Tensor, ""]:  # beside the mean, in a tuple
    """What `nn.AdaptiveLogSoftmaxWithLoss` computes; torch has no function for it, nor have we."""
    outputs: Any = nn.AdaptiveLogSoftmaxWithLoss.forward(layer, input, target)
    return outputs
