"""The short way: a call that was seen before runs the operator alone, or what stands in for it."""

import pytest
import torch
import torch.nn.functional as F
from losses import WITH_FUNCTIONS, Drawn, Loss, build, equal
from torch import nn

import safeloss

SINGLE = [loss for loss in WITH_FUNCTIONS if loss.kernel.signature.operator is not None]
over_single = pytest.mark.parametrize("loss", SINGLE, ids=str)


def counted(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of PyTorch's function from now on, which still does what it did."""
    calls, native = [], loss.native_kernel

    def stand_in(*args, **kwargs):
        calls.append(native.__name__)
        return native(*args, **kwargs)

    monkeypatch.setattr(F, native.__name__, stand_in)
    return calls


@over_single
def test_a_hit_needs_nothing_of_functional(loss: Loss, monkeypatch) -> None:
    safe, native = build(loss, Drawn([], {**loss.options, "check_values": "never"}))
    inputs = loss.batch(4)
    expected = native(*inputs)
    safe(*inputs)
    calls = counted(loss, monkeypatch)
    assert equal(safe(*inputs), expected)
    assert not calls


@over_single
def test_what_somebody_puts_into_functional_is_called(loss: Loss, monkeypatch) -> None:
    safe, native = build(loss, Drawn([], {**loss.options, "check_values": "never"}))
    inputs = loss.batch(4)
    expected = native(*inputs)
    calls = counted(loss, monkeypatch)
    for _ in range(3):
        assert equal(safe(*inputs), expected)
    assert len(calls) == 3


@pytest.mark.parametrize("name", ["weight", "size_average"])
def test_what_the_operator_does_not_take(name) -> None:
    x, y = torch.randn(4), torch.randn(4)
    given = {"weight": torch.rand(4), "size_average": False}[name]
    with pytest.warns() if name == "size_average" else torch.no_grad():
        for _ in range(2):
            ours = safeloss.functional.mse_loss(x, y, **{name: given})
            assert torch.equal(ours, F.mse_loss(x, y, **{name: given}))


def test_numbers_may_change_between_hits() -> None:
    x, y = torch.randn(4), torch.randn(4)
    safe, native = safeloss.SafeSmoothL1Loss(), nn.SmoothL1Loss()
    for beta in (1.0, 1.0, 0.0, 0.5):
        safe.beta = native.beta = beta
        assert torch.equal(safe(x, y), native(x, y))


def test_a_mean_of_divergences_warns_every_time() -> None:
    x, y = torch.randn(4, 3).log_softmax(1), torch.rand(4, 3)
    loss = safeloss.SafeKLDivLoss()
    for _ in range(3):
        with pytest.warns(UserWarning, match="batchmean"):
            loss(x, y)
