"""Modules on pairs and triplets."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from safeloss import functional
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare
from safeloss._runtime.module import AtCall, SafeModule

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SafeMarginRankingLoss(SafeModule, nn.MarginRankingLoss):
    """`nn.MarginRankingLoss` that scores every pair against its own sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self, input1: Tensor, input2: Tensor, target: Tensor, **at_call: Unpack[AtCall]
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.margin_ranking_loss)


class SafeCosineEmbeddingLoss(SafeModule, nn.CosineEmbeddingLoss):
    """`nn.CosineEmbeddingLoss` that scores every pair against its own sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self, input1: Tensor, input2: Tensor, target: Tensor, **at_call: Unpack[AtCall]
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.cosine_embedding_loss)


class SafeTripletMarginLoss(SafeModule, nn.TripletMarginLoss):
    """`nn.TripletMarginLoss` that compares every anchor with its own two points.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
    """

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(margin, p, eps, swap, size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self, anchor: Tensor, positive: Tensor, negative: Tensor, **at_call: Unpack[AtCall]
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.triplet_margin_loss)


class SafeTripletMarginWithDistanceLoss(SafeModule, nn.TripletMarginWithDistanceLoss):
    """`nn.TripletMarginWithDistanceLoss` on three inputs of one shape.

    Raises:
        LayoutError: the shapes do not fit together.
    """

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: Reduction = "mean",
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(
            distance_function=distance_function, margin=margin, swap=swap, reduction=reduction
        )
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self, anchor: Tensor, positive: Tensor, negative: Tensor, **at_call: Unpack[AtCall]
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.triplet_margin_with_distance_loss)
