"""The losses of segmentation-models-pytorch, wrapped."""

import pytest

# Also where the installed torchvision was built for another PyTorch.
pytest.importorskip("segmentation_models_pytorch", exc_type=(ImportError, RuntimeError))

# part: wrapped
from segmentation_models_pytorch.losses import DiceLoss

from safeloss import layouts, wrap

dice = wrap(DiceLoss("binary"), input=layouts.Scores, target=layouts.Labels)
# end

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.losses import FocalLoss, JaccardLoss, TverskyLoss
from torch import nn

from safeloss import LayoutError, SafeBCEWithLogitsLoss


def images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 1, 32, 64), (torch.rand(4, 1, 32, 64) > 0.5).float()


@pytest.mark.parametrize("kind", [DiceLoss, FocalLoss, JaccardLoss, TverskyLoss])
def test_the_value_and_the_gradients_are_those_of_the_library(kind) -> None:
    scores, masks = images()
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    loss = wrap(kind("binary"), input=layouts.Scores, target=layouts.Labels)
    value, expected = loss(ours, masks.squeeze(1)), kind("binary")(theirs, masks)
    value.backward()
    expected.backward()
    assert torch.equal(value, expected)
    assert torch.equal(ours.grad, theirs.grad)


def test_what_does_not_fit_is_refused() -> None:
    """The library flattens: it takes masks of the right number of pixels in any order."""
    scores, masks = images()
    turned = masks.mT
    DiceLoss("binary")(scores, turned)
    with pytest.raises(LayoutError):
        dice(scores, turned)


def test_a_model_is_trained() -> None:
    _, masks = images()
    pictures = torch.randn(4, 3, 32, 64)

    def trained(loss: nn.Module, masks: torch.Tensor) -> list[float]:
        torch.manual_seed(0)
        net = smp.Unet(
            "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 4)
        )
        optimizer, losses = torch.optim.SGD(net.parameters(), 0.05), []
        for _ in range(2):
            value = loss(net(pictures), masks)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        return losses

    safe, native = SafeBCEWithLogitsLoss(), nn.BCEWithLogitsLoss()
    assert trained(safe, masks.squeeze(1)) == trained(native, masks)
