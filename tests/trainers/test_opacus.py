"""Opacus: a gradient for each sample."""

import pytest

pytest.importorskip("opacus")

# part: private
import torch
from opacus import PrivacyEngine

from safeloss import SafeBCEWithLogitsLoss


def private(model, loader):
    optimizer, engine = torch.optim.SGD(model.parameters(), 0.05), PrivacyEngine()
    made = engine.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
    )
    return engine, *made


def train(model, optimizer, loader, loss=None):
    loss, losses = loss or SafeBCEWithLogitsLoss(), []
    for x, y in loader:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


# end

from opacus import GradSampleModule
from samples import classification, loader, model, weights
from torch import Tensor, nn

from safeloss import LayoutError


def curve(loss: nn.Module, x: Tensor, y: Tensor, outputs: int = 1) -> list[float]:
    net = model(30, outputs)
    torch.manual_seed(1)
    return [*train(*private(net, loader(x, y))[1:], loss), *weights(net)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = classification()
    right = curve(nn.BCEWithLogitsLoss(), x, y.view(-1, 1).float())
    assert curve(SafeBCEWithLogitsLoss(), x, y) == right
    wrong = curve(nn.MultiLabelSoftMarginLoss(), x, y.float())
    assert wrong != right, "PyTorch takes it without a word"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LayoutError):
        curve(SafeBCEWithLogitsLoss(), *classification(), outputs=3)


def test_resumed_from_a_checkpoint(tmp_path) -> None:
    def epoch(number: int, *made) -> list[float]:
        torch.manual_seed(number)  # the noise
        return train(*made)

    x, y = classification()
    through = private(model(30), loader(x, y))
    epoch(1, *through[1:])
    whole = [*epoch(2, *through[1:]), *weights(through[1])]

    engine, net, optimizer, batches = private(model(30), loader(x, y))
    epoch(1, net, optimizer, batches)
    engine.save_checkpoint(path=tmp_path / "checkpoint.pt", module=net, optimizer=optimizer)

    engine, net, optimizer, batches = private(model(30), loader(x, y))
    engine.load_checkpoint(path=tmp_path / "checkpoint.pt", module=net, optimizer=optimizer)
    assert [*epoch(2, net, optimizer, batches), *weights(net)] == whole
    assert engine.get_epsilon(1e-5) == through[0].get_epsilon(1e-5)


def first_gradient(x: Tensor, y: Tensor, **more: object) -> Tensor:
    net = GradSampleModule(model(30))
    SafeBCEWithLogitsLoss()(net(x), y, **more).backward()
    return next(net.parameters()).grad_sample[0]


def alone(x: Tensor, y: Tensor) -> Tensor:
    net = model(30)
    SafeBCEWithLogitsLoss()(net(x[:1]), y[:1]).backward()
    return next(net.parameters()).grad


def test_each_sample_has_its_own_gradient() -> None:
    x, y = (data[:8] for data in classification())
    torch.testing.assert_close(first_gradient(x, y), alone(x, y))


def test_a_weight_of_one_sample_changes_no_gradient_of_another() -> None:
    """If the count is the divisor; the sum of the weights mixes them."""
    x, y = (data[:8] for data in classification())
    weight = torch.ones(8)
    weight[0], weight[1] = 2, 5
    own = first_gradient(x, y, sample_weight=weight, denominator=len(y))
    torch.testing.assert_close(own, 2 * alone(x, y))
    mixed = first_gradient(x, y, sample_weight=weight)
    torch.testing.assert_close(mixed, 2 * alone(x, y) * 8 / weight.sum())
