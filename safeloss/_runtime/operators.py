"""The operators behind `torch.nn.functional`, without what it does before it calls them.

A call that is known to be right needs none of its checks. Where anybody watches
(`__torch_function__`), the kernel itself is called.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._torch import unread

_C: Any = torch._C  # whose stubs leave most of it out
_nn = _C._nn

NUMBERS = {"none": 0, "mean": 1, "sum": 2, "batchmean": 3}  # the last is not torch's


class Operator(NamedTuple):
    """What PyTorch's function ends in. All that a kernel has and `takes` lacks must have its
    default."""

    call: Callable[..., Tensor]
    takes: tuple[str, ...]  # by position: parameters, `reduction` as its number, and "None"


def _smooth_l1_loss(input: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    if beta == 0:
        return _nn.l1_loss(input, target, reduction)
    return _nn.smooth_l1_loss(input, target, reduction, beta)


def smoothed(target: Tensor, label_smoothing: float) -> Tensor:
    """Labels that are `label_smoothing` of the way to 1/2."""
    if label_smoothing == 0:
        return target
    return target * (1 - label_smoothing) + label_smoothing / 2


def _multi_label(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    label_smoothing: float,
    reduction: int,
) -> Tensor:
    if label_smoothing:
        target = smoothed(target, label_smoothing)
    return torch.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)


def _kl_div(input: Tensor, target: Tensor, reduction: int, log_target: bool) -> Tensor:
    if reduction == NUMBERS["mean"]:  # of which torch warns
        return F.kl_div(input, target, reduction="mean", log_target=log_target)
    if reduction != NUMBERS["batchmean"]:
        return torch.kl_div(input, target, reduction, log_target=log_target)
    total = torch.kl_div(input, target, NUMBERS["sum"], log_target=log_target)
    return total / input.shape[0] if input.dim() else total


def _triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    p: float,
    eps: float,
    swap: bool,
    reduction: int,
) -> Tensor:
    if margin <= 0:  # which PyTorch refuses
        return F.triplet_margin_loss(anchor, positive, negative, margin)
    return torch.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction)


def _ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int,
    reduction: int,
    zero_infinity: bool,
) -> Tensor:
    joined = targets.contiguous()  # as in the kernel
    return torch.ctc_loss(
        log_probs, joined, input_lengths, target_lengths, blank, reduction, zero_infinity
    )


def gaussian_nll(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool,
    eps: float,
    reduction: int,
) -> Tensor:
    """The formula of PyTorch's Gaussian loss (Nix and Weigend, 1994), without its look at `var`."""
    if not isinstance(var, Tensor):
        var = var * torch.ones_like(input)
    if var.dim() < input.dim():
        var = var.unsqueeze(-1)
    var = var.clone()
    with torch.no_grad():
        var.clamp_(min=eps)
    loss = 0.5 * (torch.log(var) + (input - target) ** 2 / var)
    if full:
        loss += 0.5 * math.log(2 * math.pi)
    if reduction == NUMBERS["none"]:
        return loss
    return loss.mean() if reduction == NUMBERS["mean"] else loss.sum()


def _gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool,
    eps: float,
    reduction: int,
) -> Tensor:
    negative = False
    if not unread(var):
        negative = bool((var < 0).any()) if isinstance(var, Tensor) else var < 0
    if negative:  # which PyTorch refuses
        return F.gaussian_nll_loss(input, target, var, full, eps)
    return gaussian_nll(input, target, var, full, eps, reduction)


# By kernel.
BINARY_CROSS_ENTROPY = Operator(_nn.binary_cross_entropy, ("input", "target", "None", "reduction"))
BINARY_CROSS_ENTROPY_WITH_LOGITS = Operator(
    torch.binary_cross_entropy_with_logits,
    ("input", "target", "weight", "pos_weight", "reduction"),
)
MULTI_LABEL = Operator(
    _multi_label, ("input", "target", "weight", "pos_weight", "label_smoothing", "reduction")
)
SOFT_MARGIN_LOSS = Operator(_nn.soft_margin_loss, ("input", "target", "reduction"))
HINGE_EMBEDDING_LOSS = Operator(
    torch.hinge_embedding_loss, ("input", "target", "margin", "reduction")
)
CROSS_ENTROPY = Operator(
    _nn.cross_entropy_loss,
    ("input", "target", "weight", "reduction", "ignore_index", "label_smoothing"),
)
NLL_LOSS = Operator(_nn.nll_loss_nd, ("input", "target", "weight", "reduction", "ignore_index"))
MULTI_MARGIN_LOSS = Operator(
    _nn.multi_margin_loss, ("input", "target", "p", "margin", "weight", "reduction")
)
MULTILABEL_MARGIN_LOSS = Operator(_nn.multilabel_margin_loss, ("input", "target", "reduction"))
L1_LOSS = Operator(_nn.l1_loss, ("input", "target", "reduction"))
MSE_LOSS = Operator(_nn.mse_loss, ("input", "target", "reduction"))
SMOOTH_L1_LOSS = Operator(_smooth_l1_loss, ("input", "target", "reduction", "beta"))
HUBER_LOSS = Operator(_nn.huber_loss, ("input", "target", "reduction", "delta"))
POISSON_NLL_LOSS = Operator(
    torch.poisson_nll_loss, ("input", "target", "log_input", "full", "eps", "reduction")
)
GAUSSIAN_NLL_LOSS = Operator(
    _gaussian_nll_loss, ("input", "target", "var", "full", "eps", "reduction")
)
KL_DIV = Operator(_kl_div, ("input", "target", "reduction", "log_target"))
MARGIN_RANKING_LOSS = Operator(
    torch.margin_ranking_loss, ("input1", "input2", "target", "margin", "reduction")
)
COSINE_EMBEDDING_LOSS = Operator(
    torch.cosine_embedding_loss, ("input1", "input2", "target", "margin", "reduction")
)
TRIPLET_MARGIN_LOSS = Operator(
    _triplet_margin_loss,
    ("anchor", "positive", "negative", "margin", "p", "eps", "swap", "reduction"),
)
CTC_LOSS = Operator(
    _ctc_loss,
    ("log_probs", "targets", "input_lengths", "target_lengths")
    + ("blank", "reduction", "zero_infinity"),
)
