"""Opacus: a gradient for each sample."""

import pytest

pytest.importorskip("opacus")

# part: private
import torch
from opacus import PrivacyEngine

from safeloss import SafeBCEWithLogitsLoss


def train(model, loader, loss=None, epochs=1):
    loss, losses = loss or SafeBCEWithLogitsLoss(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    model, optimizer, loader = PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
    )
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            value = loss(model(x), y)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return losses


# end

from samples import classification, loader, model, weights
from torch import Tensor, nn


def curve(loss: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    net = model(30)
    torch.manual_seed(1)
    return [*train(net, loader(x, y), loss), *weights(net)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = classification()
    right = curve(nn.BCEWithLogitsLoss(), x, y.view(-1, 1).float())
    assert curve(SafeBCEWithLogitsLoss(), x, y) == right
    wrong = curve(nn.MultiLabelSoftMarginLoss(), x, y.float())
    assert wrong != right, "PyTorch takes it without a word"


def test_each_sample_has_its_own_gradient() -> None:
    from opacus import GradSampleModule

    x, y = classification()
    net = GradSampleModule(model(30))
    SafeBCEWithLogitsLoss()(net(x[:8]), y[:8]).backward()
    alone = model(30)
    SafeBCEWithLogitsLoss()(alone(x[:1]), y[:1]).backward()
    first = next(net.parameters()).grad_sample[0]
    torch.testing.assert_close(first, next(alone.parameters()).grad)
