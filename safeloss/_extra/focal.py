"""Focal losses (Lin, Goyal, Girshick, He and Dollár 2017, "Focal Loss for Dense Object Detection").

With the probability `p` of the right answer, a focal loss is `-(1 - p) ** gamma * log(p)`: what the
model already knows well counts little.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import safeloss
from safeloss import layouts


def _power(base: Tensor, gamma: float) -> Tensor:
    """`base ** gamma`; below 1 its slope at 0 is infinite, and there the loss itself is 0."""
    if 0 < gamma < 1:
        base = base.clamp_min(torch.finfo(base.dtype).tiny)
    return base**gamma


@safeloss.checked
def sigmoid_focal_loss(
    input: layouts.Scores,
    target: layouts.Labels,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, "*shape"]:
    """The focal loss of yes/no questions; `alpha` is the weight of yes, and `1 - alpha` that of no.

    >>> sigmoid_focal_loss(torch.zeros(8, 1), torch.ones(8))
    tensor(0.0433)
    """
    yes = input.sigmoid()
    wrong = torch.addcmul(yes, target, torch.rsub(yes, 1, alpha=2))  # yes (1 - t) + t (1 - yes)
    entropy = F.binary_cross_entropy_with_logits(input, target, reduction="none")
    loss = _power(wrong, gamma) * entropy
    if alpha is None or alpha < 0:  # as in torchvision
        return loss
    return loss * (target * (2 * alpha - 1) + (1 - alpha))


class SigmoidFocalLoss(safeloss.LossModule, kernel=sigmoid_focal_loss):
    """The focal loss of yes/no questions: one score and one label each, of any shape.

    It equals `torchvision.ops.sigmoid_focal_loss`, of which the default reduction is "none".
    `alpha` is the weight of yes, and `1 - alpha` that of no; None leaves it out. With `gamma=0` it
    is binary cross entropy.

    >>> loss = SigmoidFocalLoss(gamma=2.0)
    >>> loss(torch.zeros(8, 1), torch.ones(8))
    tensor(0.0433)
    """

    alpha: float | None = 0.25
    gamma: float = 2.0


def _counts(target: Tensor, ignore_index: int) -> Tensor:
    return target != ignore_index


@safeloss.checked(count=_counts)
def softmax_focal_loss(
    input: layouts.ClassScores,
    target: layouts.ClassIndices,
    weight: layouts.PerClass | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
) -> Float[Tensor, "batch *space"]:
    """The focal loss of one of several classes; the mean is over the targets that count.

    >>> softmax_focal_loss(torch.zeros(8, 2), torch.zeros(8, dtype=torch.long))
    tensor(0.1733)
    """
    logarithms = input.log_softmax(1)
    entropy = F.nll_loss(logarithms, target, ignore_index=ignore_index, reduction="none")
    wrong = -torch.expm1(-entropy)  # 1 - p
    if weight is not None:
        entropy = F.nll_loss(logarithms, target, weight, None, ignore_index, reduction="none")
    return _power(wrong, gamma) * entropy


class SoftmaxFocalLoss(safeloss.LossModule, kernel=softmax_focal_loss):
    """The focal loss of one of several classes, with class indices as in `nn.CrossEntropyLoss`.

    `weight` has one number for each class. Targets that are `ignore_index` do not count. The mean
    divides by the number of targets that count, whatever they weigh. With `gamma=0` and without
    weights it is cross entropy.

    >>> loss = SoftmaxFocalLoss(gamma=2.0)
    >>> loss(torch.zeros(8, 2), torch.zeros(8, dtype=torch.long))
    tensor(0.1733)
    """

    weight: layouts.PerClass | None = None
    gamma: float = 2.0
    ignore_index: int = -100
