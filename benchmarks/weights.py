"""Weights, masks and counts beside the same written by hand in plain PyTorch.

By hand is what a good engineer writes: the module without its mean, multiplied, summed and divided.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import Case, Tensors

WEIGHTED = ("BCEWithLogits", "CrossEntropy", "MSE")  # as the cases are called
ByHand = Callable[[Callable[..., Tensor], Tensor, Tensors], Tensor]


def _weight(unreduced: Callable[..., Tensor], weight: Tensor, inputs: Tensors) -> Tensor:
    target = inputs[1]
    counted = weight if target.is_floating_point() else weight * (target != -100)
    return (unreduced(*inputs) * weight).sum() / counted.sum()


def _mask(unreduced: Callable[..., Tensor], mask: Tensor, inputs: Tensors) -> Tensor:
    scores, target = inputs  # under the mask it may be NaN, or no class
    known = torch.where(mask, target, 0)
    return torch.where(mask, unreduced(scores, known), 0).sum() / mask.sum()


def _count(summed: Callable[..., Tensor], count: Tensor, inputs: Tensors) -> Tensor:
    return summed(*inputs) / count


_BY_HAND: dict[str, tuple[str, ByHand]] = {
    "sample_weight": ("none", _weight),
    "mask": ("none", _mask),
    "denominator": ("sum", _count),
}
FORMS = tuple(_BY_HAND)


def both(form: str, case: Case, inputs: Tensors) -> tuple[Callable[..., Tensor], ...]:
    """The loss by hand, and ours, with the same numbers in the shape of the unreduced loss."""
    torch.manual_seed(1)
    chosen = torch.rand(len(inputs[0]), *inputs[1].shape[1:]) + 0.1
    given = {"sample_weight": chosen, "mask": chosen < 1, "denominator": torch.tensor(7.0)}[form]
    reduction, reduced = _BY_HAND[form]
    native = case.native(reduction=reduction)
    safe = case.safe(check_values="never")

    def by_hand(*inputs: Tensor) -> Tensor:
        return reduced(native, given, inputs)

    return by_hand, partial(safe, **{form: given})
