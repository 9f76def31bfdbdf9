"""Losses on sequences that are not aligned with their labels."""

from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from safeloss._contract import mistakes
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime import operators
from safeloss._runtime.checked import checked
from safeloss.layouts import (
    Denominator,
    InputLengths,
    LabelLengths,
    SampleMask,
    SampleWeights,
    SequenceLabels,
    SequenceLogProbabilities,
)

F: Any = torch.nn.functional  # whose stubs take tensors for lengths only

Lengths: TypeAlias = (
    tuple[int, ...] | list[int] | tuple[Integer[Tensor, ""], ...] | list[Integer[Tensor, ""]]
)


def lengths(log_probs: Tensor, target_lengths: Any) -> Tensor:
    """1, after each loss was divided by its number of labels (but at least by 1)."""
    return torch.as_tensor(target_lengths, device=log_probs.device).clamp(min=1)


@checked(
    native=F.ctc_loss, operator=operators.CTC_LOSS, mistakes=mistakes.SEQUENCES, lengths=lengths
)
def ctc_loss(
    log_probs: SequenceLogProbabilities,
    targets: SequenceLabels,
    input_lengths: InputLengths | Lengths,
    target_lengths: LabelLengths | Lengths,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, " batch"] | Float[Tensor, ""]:
    """`torch.nn.functional.ctc_loss`, on labels that are padded or joined.

    Labels are never reshaped. Joined ones that are not contiguous are made so: torch computes
    wrong losses from them.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: positive inputs, lengths that do not fit,
            or labels that are no class or `blank`, where values are read.
    """
    joined = targets.contiguous()  # itself where it is
    return F.ctc_loss(
        log_probs, joined, input_lengths, target_lengths, blank, reduction, zero_infinity
    )
