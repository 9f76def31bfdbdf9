"""The operators behind `torch.nn.functional`, without what it does before it calls them.

A call that is known to be right needs none of its checks. The parameters of each say what it takes
of the kernel of the same name, everything else having its default; `reduction` comes last, as
torch's number. Where anybody watches (`__torch_function__`), the kernel itself is called.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_C: Any = torch._C  # whose stubs leave most of it out
_nn = _C._nn

NUMBERS = {"none": 0, "mean": 1, "sum": 2, "batchmean": 3}  # the last is not torch's


def binary_cross_entropy(input: Tensor, target: Tensor, reduction: int) -> Tensor:
    return _nn.binary_cross_entropy(input, target, None, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor, pos_weight: Tensor, reduction: int
) -> Tensor:
    return torch.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)


multilabel_binary_cross_entropy = binary_cross_entropy_with_logits


def soft_margin_loss(input: Tensor, target: Tensor, reduction: int) -> Tensor:
    return _nn.soft_margin_loss(input, target, reduction)


def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float, reduction: int) -> Tensor:
    return torch.hinge_embedding_loss(input, target, margin, reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    ignore_index: int,
    label_smoothing: float,
    reduction: int,
) -> Tensor:
    return _nn.cross_entropy_loss(input, target, weight, reduction, ignore_index, label_smoothing)


def nll_loss(
    input: Tensor, target: Tensor, weight: Tensor, ignore_index: int, reduction: int
) -> Tensor:
    return _nn.nll_loss_nd(input, target, weight, reduction, ignore_index)


def multi_margin_loss(
    input: Tensor, target: Tensor, p: int, margin: float, weight: Tensor, reduction: int
) -> Tensor:
    return _nn.multi_margin_loss(input, target, p, margin, weight, reduction)


def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: int) -> Tensor:
    return _nn.multilabel_margin_loss(input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: int) -> Tensor:
    return _nn.l1_loss(input, target, reduction)


def mse_loss(input: Tensor, target: Tensor, reduction: int) -> Tensor:
    return _nn.mse_loss(input, target, reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, beta: float, reduction: int) -> Tensor:
    if beta == 0:
        return _nn.l1_loss(input, target, reduction)
    return _nn.smooth_l1_loss(input, target, reduction, beta)


def huber_loss(input: Tensor, target: Tensor, delta: float, reduction: int) -> Tensor:
    return _nn.huber_loss(input, target, reduction, delta)


def poisson_nll_loss(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int
) -> Tensor:
    return torch.poisson_nll_loss(input, target, log_input, full, eps, reduction)


def kl_div(input: Tensor, target: Tensor, log_target: bool, reduction: int) -> Tensor:
    if reduction == NUMBERS["mean"]:  # of which torch warns
        return F.kl_div(input, target, reduction="mean", log_target=log_target)
    if reduction != NUMBERS["batchmean"]:
        return torch.kl_div(input, target, reduction, log_target=log_target)
    total = torch.kl_div(input, target, NUMBERS["sum"], log_target=log_target)
    return total / input.shape[0] if input.dim() else total


def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float, reduction: int
) -> Tensor:
    return torch.margin_ranking_loss(input1, input2, target, margin, reduction)


def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float, reduction: int
) -> Tensor:
    return torch.cosine_embedding_loss(input1, input2, target, margin, reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    p: float,
    eps: float,
    swap: bool,
    reduction: int,
) -> Tensor:
    if margin <= 0:  # which native refuses
        return F.triplet_margin_loss(anchor, positive, negative, margin)
    return torch.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int,
    zero_infinity: bool,
    reduction: int,
) -> Tensor:
    joined = targets.contiguous()  # as in the kernel
    return torch.ctc_loss(
        log_probs, joined, input_lengths, target_lengths, blank, reduction, zero_infinity
    )
