"""Modules for numbers and for distributions."""

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from safeloss import functional
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare
from safeloss._runtime.module import AtCall, SafeModule

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SafeL1Loss(SafeModule, nn.L1Loss):
    """`nn.L1Loss` that measures every prediction against its own target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.l1_loss, weight=None)


class SafeMSELoss(SafeModule, nn.MSELoss):
    """`nn.MSELoss` that measures every prediction against its own target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.mse_loss, weight=None)


class SafeSmoothL1Loss(SafeModule, nn.SmoothL1Loss):
    """`nn.SmoothL1Loss` that measures every prediction against its own target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        beta: float = 1.0,
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(size_average, reduce, reduction, beta)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.smooth_l1_loss)


class SafeHuberLoss(SafeModule, nn.HuberLoss):
    """`nn.HuberLoss` that measures every prediction against its own target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """

    def __init__(
        self,
        reduction: Reduction = "mean",
        delta: float = 1.0,
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(reduction, delta)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.huber_loss, weight=None)


class SafePoissonNLLLoss(SafeModule, nn.PoissonNLLLoss):
    """`nn.PoissonNLLLoss` that scores every rate against its own count.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a negative target, where values are read.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(log_input, full, size_average, eps, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self, log_input: Tensor, target: Tensor, **at_call: Unpack[AtCall]
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.poisson_nll_loss, input="log_input")


class SafeGaussianNLLLoss(SafeModule, nn.GaussianNLLLoss):
    """`nn.GaussianNLLLoss` that scores every mean against its own target.

    `var` has the shape of `input`, or lacks its last axis, or has one axis of size 1
    instead. Unlike torch's it can be compiled, exported and vmapped; there nothing is read.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a negative variance (always), or a NaN target, where values are read.
    """

    def __init__(
        self,
        *,
        full: bool = False,
        eps: float = 1e-6,
        reduction: Reduction = "mean",
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(full=full, eps=eps, reduction=reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self, input: Tensor, target: Tensor, var: Tensor | float, **at_call: Unpack[AtCall]
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.gaussian_nll_loss)


class SafeKLDivLoss(SafeModule, nn.KLDivLoss):
    """`nn.KLDivLoss` that compares every log-probability with its own target.

    `reduction="mean"` divides by all elements and warns, as in torch; "batchmean" is the
    divergence.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a positive input, or a negative target without `log_target`, where
            values are read.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Literal["none", "batchmean", "mean", "sum"] = "mean",
        log_target: bool = False,
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(size_average, reduce, reduction, log_target)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.kl_div)
