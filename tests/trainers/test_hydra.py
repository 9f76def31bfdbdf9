"""Hydra: a loss that is named in a configuration."""

import pytest

pytest.importorskip("hydra")

# part: config
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIG = """
loss:
  _target_: safeloss.SafeCrossEntropyLoss
  class_dim: -1
  label_smoothing: 0.1
"""


def make_loss(config):
    return instantiate(config.loss)


# end

import subprocess
import sys

import torch
from hydra.errors import InstantiationException
from samples import classification, loader, model, regression, weights
from torch import Tensor, nn

from safeloss import LayoutError, SafeCrossEntropyLoss

TRAINING = """
loss: {_target_: torch.nn.MSELoss, reduction: mean}
optimizer: {_target_: torch.optim.SGD, _partial_: true, lr: 0.05, momentum: 0.9}
"""


def curve(loss: str, x: Tensor, y: Tensor, outputs: int = 1) -> list[float]:
    config = OmegaConf.create(TRAINING)
    config.loss._target_ = loss
    net, losses, criterion = model(x.shape[1], outputs), [], make_loss(config)
    optimizer = instantiate(config.optimizer)(net.parameters())
    for inputs, targets in loader(x, y):
        value = criterion(net(inputs), targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return [*losses, *weights(net)]


def test_curves_are_those_of_pytorch() -> None:
    safe, native = "safeloss.SafeCrossEntropyLoss", "torch.nn.CrossEntropyLoss"
    assert curve(safe, *classification(), 2) == curve(native, *classification(), 2)


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve("torch.nn.MSELoss", x, y.view(-1, 1))
    assert curve("torch.nn.MSELoss", x, y) != right
    assert curve("safeloss.SafeMSELoss", x, y) == right


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LayoutError):
        curve("safeloss.SafeMSELoss", *regression(), outputs=3)


def test_a_configuration_is_migrated(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TRAINING)
    command = [sys.executable, "-m", "safeloss", "migrate", str(file), "--write"]
    subprocess.run(command, check=True, capture_output=True)
    assert file.read_text() == TRAINING.replace("torch.nn.MSELoss", "safeloss.SafeMSELoss")


def test_instantiated() -> None:
    loss = make_loss(OmegaConf.create(CONFIG))
    assert type(loss) is SafeCrossEntropyLoss
    assert loss.class_dim == -1
    scores, labels = torch.randn(4, 7, 5), torch.randint(5, (4, 7))
    native = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert torch.equal(loss(scores, labels), native(scores.movedim(-1, 1), labels))


def test_an_option_that_there_is_not_is_refused() -> None:
    config = OmegaConf.create(CONFIG)
    config.loss.reduction = "avg"
    with pytest.raises(InstantiationException, match="reduction"):
        make_loss(config)
