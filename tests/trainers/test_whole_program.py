"""Checks turned off and on for a whole program."""

# part: switch
import os

import safeloss

CHECKED = os.environ.get("CHECK_LOSSES", "1") != "0"


def with_losses(model):
    """`model`, a trainer, or any object that holds losses: all of them safe, or all PyTorch's."""
    return safeloss.convert(model) if CHECKED else safeloss.to_native(model)


# end

import pytest
from samples import model, regression
from torch import nn

from safeloss import SafeHuberLoss, SafeMSELoss


class Trainer:
    def __init__(self) -> None:
        self.model = model()
        self.losses = {"mean": nn.MSELoss(), "robust": SafeHuberLoss(delta=0.5)}


@pytest.mark.parametrize("checked", [True, False])
def test_all_losses_are_turned(monkeypatch, checked) -> None:
    monkeypatch.setattr(f"{__name__}.CHECKED", checked)
    trainer = with_losses(Trainer())
    kinds = [type(loss) for loss in trainer.losses.values()]
    assert kinds == ([SafeMSELoss, SafeHuberLoss] if checked else [nn.MSELoss, nn.HuberLoss])
    assert trainer.losses["robust"].delta == 0.5


def test_the_guard_sees_what_is_left_in_all_code() -> None:
    x, y = regression()
    with pytest.raises(safeloss.LayoutError), safeloss.guard():
        nn.functional.mse_loss(model()(x), y)
    with safeloss.guard(on="log") as findings:
        nn.functional.mse_loss(model()(x), y)
    assert len(findings) == 1


def test_weaker_and_stronger_switches() -> None:
    x, y = regression()
    quiet = safeloss.convert(nn.MSELoss(), check_values="never")
    quiet(model()(x), y * float("nan"))  # no number is read
    with pytest.raises(safeloss.LayoutError):
        quiet(model(outputs=3)(x), y)
    with safeloss.guard(), safeloss.allow():
        nn.functional.mse_loss(model()(x), y)
