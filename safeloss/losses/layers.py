"""Modules with a layer inside: features in, class scores never seen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from safeloss._contract.options import CheckValues, EmptyWithoutZero
from safeloss._runtime.checked import forward_of, prepare
from safeloss._runtime.module import SafeModule
from safeloss.functional import layers

if TYPE_CHECKING:
    from torch.nn.modules.adaptive import _ASMoutput


class SafeAdaptiveLogSoftmaxWithLoss(SafeModule, nn.AdaptiveLogSoftmaxWithLoss):
    """`nn.AdaptiveLogSoftmaxWithLoss` with class indices of any integer dtype.

    It gives torch's named tuple of `output` and `loss`; `log_prob` and `predict` are torch's own.
    `empty` has no "zero" here.

    Raises:
        LayoutError: the shapes do not fit together, or the features are not `in_features`.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: an index that is no class; PyTorch notices those too.

    >>> loss = SafeAdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[5, 10])
    >>> loss(torch.randn(8, 16), torch.zeros(8, 1, dtype=torch.uint8)).output.shape
    torch.Size([8])
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        check_values: CheckValues = "first",
        empty: EmptyWithoutZero = "warn",
    ) -> None:
        super().__init__(in_features, n_classes, cutoffs, div_value, head_bias, device, dtype)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input_: Tensor, target_: Tensor) -> _ASMoutput: ...
    else:
        forward = forward_of(
            layers.adaptive_log_softmax_with_loss,
            input="input_",
            target="target_",
            layer="self",
            num_classes="n_classes",
        )
