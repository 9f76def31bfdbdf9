"""The dice loss (Milletari, Navab and Ahmadi 2016, "V-Net"): how far two sets of pixels overlap.

With probabilities `p` and labels `t` it is `1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s)`, of each
class; as Milletari has it, the sums in the divisor are of squares (`squared=True`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

import safeloss
from safeloss import layouts


@safeloss.checked(coupled="per_batch")
def dice_loss(
    input: layouts.ClassMaps,
    target: layouts.LabelMaps,
    *,
    softmax: bool = False,
    per_batch: bool = False,
    squared: bool = False,
    smooth: float = 1e-5,
) -> Float[Tensor, "batch classes"]:
    """The dice loss of scores `[batch, classes, *space]` and labels from 0 to 1 of the same shape.

    >>> dice_loss(torch.full((2, 1, 4, 4), 20.0), torch.ones(2, 4, 4))
    tensor(0.)
    """
    p = input.softmax(1) if softmax else input.sigmoid()
    p, t = p.unsqueeze(-1).flatten(2), target.unsqueeze(-1).flatten(2)  # [batch, classes] too
    half = input.dtype in (torch.float16, torch.bfloat16)  # in which a sum may overflow
    axes, dtype = (0, 2) if per_batch else 2, torch.float32 if half else None
    # The product is last, so its gradient comes first, and that of the sum is added in place to it.
    of_p, of_t = [(x.square() if squared else x).sum(axes, dtype=dtype) for x in (p, t)]
    both = (p * t).sum(axes, dtype=dtype)
    loss = (1 - (2 * both + smooth) / (of_p + of_t + smooth)).to(input.dtype)
    return loss.expand(input.shape[:2])


class DiceLoss(safeloss.LossModule, kernel=dice_loss):
    """The dice loss of segmentation: scores `[batch, classes, *space]`, and as many labels.

    The second axis holds the classes, and is 1 where there is one question: then labels
    `[batch, *space]` are aligned with it. Each class is a question of its own, or with
    `softmax=True` one of them is right and the labels are one-hot. A dice loss is that of one
    sample and class, or with `per_batch=True` of one class over all samples of the batch, which
    then depend on each other, and then weights and masks are refused.

    | here | MONAI's `DiceLoss` | segmentation_models_pytorch's `DiceLoss` |
    |---|---|---|
    | `softmax=False`, `True` | `sigmoid=True`, `softmax=True` | "binary" or "multilabel" |
    | `per_batch=True` | `batch=True` | always |
    | `squared=True` | `squared_pred=True` | never |
    | `smooth=s` | `smooth_nr=s, smooth_dr=s` | `smooth=s / 2`; classes without a label give 0 |

    >>> loss = DiceLoss()
    >>> loss(torch.full((2, 1, 4, 4), 20.0), torch.ones(2, 4, 4))
    tensor(0.)
    """

    softmax: bool = False
    per_batch: bool = False
    squared: bool = False
    smooth: float = 1e-5
