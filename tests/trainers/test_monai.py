"""MONAI's losses, wrapped."""

import pytest

pytest.importorskip("monai")

# part: wrapped
from monai.losses import DiceLoss

from safeloss import layouts, wrap

dice = wrap(DiceLoss(sigmoid=True), input=layouts.Scores, target=layouts.Labels)
# end

import copy
import pickle

import torch
from monai.losses import DiceCELoss, FocalLoss

import safeloss
from safeloss import LayoutError, SafeBCEWithLogitsLoss


def images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 1, 16, 16), (torch.rand(4, 1, 16, 16) > 0.5).float()


def test_the_value_and_the_gradients_are_those_of_monai() -> None:
    scores, masks = images()
    for loss in (dice, pickle.loads(pickle.dumps(dice)), copy.deepcopy(dice)):
        ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
        value, expected = loss(ours, masks), DiceLoss(sigmoid=True)(theirs, masks)
        value.backward()
        expected.backward()
        assert torch.equal(value, expected)
        assert torch.equal(ours.grad, theirs.grad)


def test_targets_without_the_axis_of_the_scores() -> None:
    scores, masks = images()
    expected = DiceLoss(sigmoid=True)(scores, masks)
    with pytest.raises(AssertionError, match="shape"):
        DiceLoss(sigmoid=True)(scores, masks.squeeze(1))
    assert torch.equal(dice(scores, masks.squeeze(1)), expected)


def test_what_does_not_fit_is_refused() -> None:
    scores, masks = images()
    with pytest.raises(LayoutError):
        dice(scores, masks[..., :8])
    focal = wrap(FocalLoss(), input=layouts.Scores, target=layouts.Labels)
    with pytest.raises(LayoutError):
        focal(scores, masks.expand(4, 3, 16, 16))


def test_the_losses_of_pytorch_inside_are_converted() -> None:
    loss = safeloss.convert(DiceCELoss(sigmoid=True))
    assert type(loss.binary_cross_entropy) is SafeBCEWithLogitsLoss
    assert torch.equal(loss(*images()), DiceCELoss(sigmoid=True)(*images()))
