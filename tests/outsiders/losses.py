"""One loss of each form, with names of parameters as people choose them."""

# ruff: noqa: UP037  # the axes of a hint are no forward reference, though all hints are strings

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import safeloss
from safeloss import layouts


@safeloss.checked
def contrastive(
    distance: layouts.Predictions, same: layouts.Labels, margin: float = 1.0
) -> Float[Tensor, "*shape"]:
    return same * distance**2 + (1 - same) * (margin - distance).clamp(min=0) ** 2


@safeloss.checked
def quantile(
    y_hat: layouts.Predictions, y: layouts.Targets, *, q: float = 0.9
) -> Float[Tensor, "*shape"]:
    error = y - y_hat
    return torch.maximum(q * error, (q - 1) * error)


@safeloss.checked
def focal(
    logits: layouts.Scores, labels: layouts.Labels, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    p = torch.where(labels > 0.5, logits.sigmoid(), 1 - logits.sigmoid())
    bce = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (1 - p) ** gamma * bce


@safeloss.checked
def dice(outputs: layouts.Scores, targets: layouts.Labels, eps: float = 1.0) -> Float[Tensor, ""]:
    p = outputs.sigmoid()
    return 1 - (2 * (p * targets).sum() + eps) / (p.sum() + targets.sum() + eps)


@safeloss.checked
def soft_cross_entropy(
    pred: layouts.ClassScores, true: layouts.ClassProbabilities, temperature: float = 2.0
) -> Float[Tensor, "batch *space"]:
    return -(true * (pred / temperature).log_softmax(1)).sum(1)


@safeloss.checked
def policy(log_prob: layouts.Predictions, advantage: layouts.Targets) -> Float[Tensor, "*shape"]:
    return -log_prob * advantage


class Contrastive(safeloss.LossModule, kernel=contrastive):
    margin: float = 1.0


class Quantile(safeloss.LossModule, kernel=quantile):
    q: float = 0.9


class Focal(safeloss.LossModule, kernel=focal):
    gamma: float = 2.0


class Dice(safeloss.LossModule, kernel=dice):
    eps: float = 1.0


class SoftCrossEntropy(safeloss.LossModule, kernel=soft_cross_entropy):
    temperature: float = 2.0


class Policy(safeloss.LossModule, kernel=policy):
    pass
