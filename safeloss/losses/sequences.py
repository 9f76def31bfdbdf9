"""Modules on sequences that are not aligned with their labels."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from safeloss import functional
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare
from safeloss._runtime.module import AtCall, SafeModule

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from safeloss.functional.sequences import Lengths


class SafeCTCLoss(SafeModule, nn.CTCLoss):
    """`nn.CTCLoss` on labels that are padded or joined, and contiguous.

    Joined labels that are not contiguous are made so: torch computes wrong losses from them.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a positive input, lengths that do not fit, or labels that are no class
            or `blank`, where values are read.
    """

    def __init__(
        self,
        blank: int = 0,
        reduction: Reduction = "mean",
        zero_infinity: bool = False,
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(blank, reduction, zero_infinity)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(
            self,
            log_probs: Tensor,
            targets: Tensor,
            input_lengths: Tensor | Lengths,
            target_lengths: Tensor | Lengths,
            **at_call: Unpack[AtCall],
        ) -> Tensor: ...
    else:
        forward = forward_of(functional.ctc_loss)
