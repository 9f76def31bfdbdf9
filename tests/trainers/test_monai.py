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
from ignite.engine import Events
from jaxtyping import Integer
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss, FocalLoss
from monai.networks.nets import UNet
from samples import model, regression, weights
from torch import Tensor, nn

import safeloss
from safeloss import LayoutError, SafeBCEWithLogitsLoss, SafeCrossEntropyLoss, SafeMSELoss


def curve(net: nn.Module, loss: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """By the trainer of MONAI, in batches of four."""
    losses = []
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": a, "label": b} for a, b in zip(x.split(4), y.split(4))],
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.01, momentum=0.9),
        loss_function=loss,
        decollate=False,
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"])
    )
    trainer.run()
    return [*losses, *weights(net)]


def unet() -> nn.Module:
    torch.manual_seed(0)
    return UNet(2, in_channels=1, out_channels=1, channels=(4, 8), strides=(2,))


@pytest.mark.parametrize("kind", [DiceLoss, DiceCELoss])
def test_curves_are_those_of_monai(kind) -> None:
    torch.manual_seed(0)
    x, masks = torch.randn(12, 1, 16, 16), (torch.rand(12, 1, 16, 16) > 0.5).float()
    right = curve(unet(), kind(sigmoid=True), x, masks)
    safe = safeloss.convert(kind(sigmoid=True))
    wrapped = wrap(safe, input=layouts.Scores, target=layouts.Labels)
    assert curve(unet(), wrapped, x, masks) == right
    assert curve(unet(), wrapped, x, masks.squeeze(1)) == right


def test_the_trainer_of_monai_broadcasts_without_a_word() -> None:
    x, y = regression()
    right = curve(model(), nn.MSELoss(), x, y.view(-1, 1))
    assert curve(model(), nn.MSELoss(), x, y) != right
    assert curve(model(), SafeMSELoss(), x, y) == right


def test_labels_that_monai_turns_into_one_hot() -> None:
    """Class numbers `[B, 1, H, W]`: a layout of one's own."""
    scores, labels = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 1, 8, 8))
    monai = DiceLoss(softmax=True, to_onehot_y=True)
    expected = monai(scores, labels)
    with pytest.raises(LayoutError):
        wrap(copy.deepcopy(monai), input=layouts.Scores, target=layouts.Labels)(scores, labels)
    numbers = Integer[Tensor, "batch 1 *space"]
    loss = wrap(copy.deepcopy(monai), input=layouts.ClassScores, target=numbers)
    assert torch.equal(loss(scores, labels), expected)
    with pytest.raises(LayoutError):
        loss(scores, labels[..., :4])


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
    assert type(loss.cross_entropy) is SafeCrossEntropyLoss
    assert torch.equal(loss(*images()), DiceCELoss(sigmoid=True)(*images()))
