"""Losses that are layers too: what the table of losses cannot say about them."""

import pytest
import torch
import torch.nn.functional as F
from losses import equal
from torch import nn

import safeloss
from safeloss import functional as SF

since_2_13 = pytest.mark.skipif(
    not hasattr(nn, "LinearCrossEntropyLoss"), reason="torch has no LinearCrossEntropyLoss yet"
)


def adaptive() -> tuple[nn.Module, nn.Module]:
    options = {"in_features": 5, "n_classes": 8, "cutoffs": [2, 4], "div_value": 2.0}
    safe = safeloss.SafeAdaptiveLogSoftmaxWithLoss(**options)
    native = nn.AdaptiveLogSoftmaxWithLoss(**options)
    native.load_state_dict(safe.state_dict())
    return safe, native


@pytest.mark.parametrize(
    ("shape", "target"), [((4, 5), (4, 1)), ((4, 5), (4,)), ((5,), ()), ((5,), (1,)), ((1, 5), ())]
)
def test_adaptive_gives_torchs_named_tuple(shape, target) -> None:
    safe, native = adaptive()
    x, y = torch.randn(shape), torch.randint(8, target, dtype=torch.uint8)
    meant = y.long().reshape(shape[:-1])
    for _ in range(2):
        assert equal(safe(x, y), native(x, meant))
        assert safe(x, y).loss.shape == ()
    batch = torch.randn(4, 5)
    assert torch.equal(safe.log_prob(batch), native.log_prob(batch))
    assert torch.equal(safe.predict(batch), native.predict(batch))


REFUSED_BY_ADAPTIVE = [
    # input,    target,                             error,                     what it says
    ((4, 5),    torch.zeros(3).long(),              safeloss.LayoutError,      "do not fit"),
    ((4, 6),    torch.zeros(4).long(),              safeloss.LayoutError,      "as many features"),
    ((4, 5),    torch.zeros(4),                     safeloss.DTypeError,       "must be integer"),
    ((4, 5),    torch.zeros(4, 8).long(),           safeloss.LayoutError,      "do not fit"),
    ((4, 2, 5), torch.zeros(4, 2).long(),           safeloss.LayoutError,      "has 3 axes"),
    ((4, 5),    torch.tensor([0, 1, 8, 2]),         safeloss.ValueRangeError,  "class indices"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "target", "error", "text"), REFUSED_BY_ADAPTIVE)
def test_adaptive_refuses(shape, target, error, text) -> None:
    with pytest.raises(error, match=text):
        adaptive()[0](torch.randn(shape), target)


def test_adaptive_over_nothing() -> None:
    loss = safeloss.SafeAdaptiveLogSoftmaxWithLoss(5, 8, [2, 4], 2.0, empty="nan")
    assert loss(torch.zeros(0, 5), torch.zeros(0).long()).loss.isnan()
    with pytest.raises(ValueError, match="empty must be one of 'warn', 'nan', 'raise'"):
        safeloss.SafeAdaptiveLogSoftmaxWithLoss(5, 8, [2, 4], 2.0, empty="zero")


LINEAR = [
    # weight,      target,                                  what PyTorch must get
    ((3, 5),       torch.ones(4, 1, dtype=torch.uint8),     torch.ones(4).long()),
    ((3, 5),       torch.full((4, 3), 1 / 3).double(),      torch.full((4, 3), 1 / 3)),
    ((3, 2, 5),    torch.ones(4, 2, 1).long(),              torch.ones(4, 2).long()),
    ((4, 4, 5),    torch.ones(4, 4).long(),                 torch.ones(4, 4).long()),
]  # fmt: skip


@since_2_13
@pytest.mark.parametrize(("weight", "target", "meant"), LINEAR)
def test_linear_cross_entropy(weight, target, meant) -> None:
    x, w, b = torch.randn(4, 5), torch.randn(weight), torch.randn(weight[:-1])
    for _ in range(2):
        ours = SF.linear_cross_entropy(x, w, target, linear_bias=b)
        assert torch.equal(ours, F.linear_cross_entropy(x, w, meant, linear_bias=b))


@since_2_13
def test_the_chunks_of_linear_cross_entropy() -> None:
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=2)
    safe = safeloss.SafeLinearCrossEntropyLoss(5, 3, options=options)
    native = nn.LinearCrossEntropyLoss(5, 3, options=options)
    native.load_state_dict(safe.state_dict())
    x, y = torch.randn(6, 5), torch.randint(3, (6,))
    for _ in range(2):
        assert torch.equal(safe(x, y), native(x, y))


@since_2_13
def test_linear_cross_entropy_of_nothing_that_counts() -> None:
    x, y = torch.randn(4, 5), torch.full((4,), -100)
    loss = safeloss.SafeLinearCrossEntropyLoss(5, 3, check_values="always", empty="raise")
    with pytest.raises(safeloss.ValueRangeError, match="every number"):
        loss(x, y)
    zero = safeloss.SafeLinearCrossEntropyLoss(5, 3, empty="zero")(x, y)
    assert zero == 0
    assert zero.requires_grad


REFUSED_BY_LINEAR = [
    # weight,   target,                   error,         what it says,  fixes
    ((1, 5),    torch.zeros(4).long(),    "LayoutError", "one class",   []),
    ((3, 5),    torch.zeros(5).long(),    "LayoutError", "do not fit",  []),
    ((3, 5),    torch.zeros(4),           "DTypeError",  "integers",    ["long()"]),
    ((3, 5), torch.eye(4, 3).int(), "DTypeError", "one whole number", []),
    ((3, 5), torch.eye(3).int()[[0, 1, 2, 0]], "DTypeError", "whole", ["int().argmax(1)"]),
    ((3, 5),    torch.zeros(4).bool(),    "DTypeError",  "bool",        ["long()"]),
    ((3, 6),    torch.zeros(4).long(),    "LayoutError", "do not fit",  []),
    ((3, 2, 5), torch.zeros(4).long(),    "LayoutError", "do not fit",  []),
]  # fmt: skip


@since_2_13
@pytest.mark.parametrize(("weight", "target", "error", "text", "fixes"), REFUSED_BY_LINEAR)
def test_linear_cross_entropy_refuses(weight, target, error, text, fixes) -> None:
    with pytest.raises(getattr(safeloss, error), match=text) as refusal:
        SF.linear_cross_entropy(torch.randn(4, 5), torch.randn(weight), target)
    assert refusal.value.fixes == tuple(f"target.{fix}" for fix in fixes)
