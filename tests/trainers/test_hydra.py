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

import torch
from hydra.errors import InstantiationException
from torch import nn

from safeloss import SafeCrossEntropyLoss


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
