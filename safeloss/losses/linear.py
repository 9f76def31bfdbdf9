"""Modules with a layer inside, for cross entropy.

Imported only where torch has it: since 2.13.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions

from safeloss import functional
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare, verify_weights
from safeloss._runtime.module import AtCall, SafeModule

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SafeLinearCrossEntropyLoss(SafeModule, nn.LinearCrossEntropyLoss):
    """`nn.LinearCrossEntropyLoss` with every row of features meeting its own class.

    Targets are class indices of any integer dtype or, floating and of the shape of the class
    scores, class probabilities.

    Raises:
        LayoutError: the shapes do not fit, or one class.
        DTypeError: floating class indices, or one-hot integers.
        ValueRangeError: an index that is no class, probabilities that do not sum to 1, where
            values are read; with `empty="raise"` also a mean of which every target is ignored.

    >>> loss = SafeLinearCrossEntropyLoss(16, 3)
    >>> loss(torch.zeros(8, 16), torch.zeros(8, 1, dtype=torch.uint8))
    tensor(1.0986, grad_fn=...)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: Reduction = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight)
        super().__init__(
            in_features,
            num_classes,
            out_features=out_features,
            bias=bias,
            device=device,
            dtype=dtype,
            reduction=reduction,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            options=options,
        )
        prepare(self, check_values=check_values, empty=empty)

    # Methods and no properties: of an AttributeError in a property, which a mode may raise while
    # the operator runs, Python makes one that says that the module has no such attribute.
    def _linear_weight(self) -> Tensor:
        """The weight of the layer, as `[classes, *out_features, in_features]`."""
        places = (self.num_classes, *self.out_features, self.linear.in_features)
        return self.linear.weight.reshape(places)

    def _linear_bias(self) -> Tensor | None:
        """The bias of the layer, as `[classes, *out_features]`."""
        bias = self.linear.bias
        if bias is None:
            return None
        return bias.reshape((self.num_classes, *self.out_features))

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(
            functional.linear_cross_entropy,
            linear_weight="self._linear_weight()",
            linear_bias="self._linear_bias()",
        )
