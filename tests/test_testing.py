"""`check_loss` passes right losses, and names what is wrong with others."""

from typing import Any

import outsiders.losses as own
import pytest
import torch
from torch import Tensor, nn

import safeloss
from safeloss.testing import check_loss, checks

X, Y = torch.randn(8, 1), (torch.arange(8) % 2).float()[:, None]
RIGHT = [own.contrastive, own.Quantile(), own.Focal(gamma=1.5), own.policy, nn.BCEWithLogitsLoss()]
DICE = checks(own.Dice(), X, Y, coupled=True)


@pytest.mark.parametrize("loss", RIGHT, ids=lambda loss: getattr(loss, "__name__", str(loss)))
def test_right_losses_pass(loss: Any) -> None:
    report = check_loss(loss, X, Y)
    assert report.failed == ()
    assert "0 of 9 failed" in str(report)


@pytest.mark.parametrize("check", DICE, ids=str)
def test_each_check_for_itself(check: Any) -> None:
    check()


def broadcasts(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean()


def normalises(x: Tensor, y: Tensor) -> Tensor:
    return ((x - x.mean()) * y).mean()


def grows(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).sum() / len(x) ** 0.5


def detaches(x: Tensor, y: Tensor) -> Tensor:
    return (x * x.detach() * y).mean()


def breaks_the_graph(x: Tensor, y: Tensor) -> Tensor:
    print(end="")
    torch._dynamo.graph_break()
    return ((x - y) ** 2).mean()


class ForgetsMasks(nn.Module):
    def forward(self, x: Tensor, y: Tensor, mask: Any = None, sample_weight: Any = None) -> Tensor:
        return ((x - y) ** 2).mean()


WRONG = [
    (broadcasts, "what would broadcast is refused or aligned"),
    (normalises, "samples are independent"),
    (grows, "the batch size does not matter"),
    (detaches, "the gradient is right"),
    (breaks_the_graph, "compiled code gives the same"),
    (ForgetsMasks(), "a mask leaves samples out"),
    (ForgetsMasks(), "a sample weight of 0 leaves samples out"),
]


@pytest.mark.parametrize(("loss", "name"), WRONG)
def test_what_is_wrong_is_named(loss: Any, name: str) -> None:
    with pytest.raises(AssertionError) as error:
        check_loss(loss, X, Y)
    assert f"failed   {name}" in str(error.value)
    [check] = [check for check in checks(loss, X, Y) if check.name == name]
    with pytest.raises(AssertionError):
        check()


def test_few_samples() -> None:
    with pytest.raises(ValueError, match="3 samples are too few"):
        checks(safeloss.SigmoidFocalLoss(), X[:3], Y[:3])
