"""The losses that torch does not have: formula, gradient, stability, and what others compute."""

import importlib.util
import itertools
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import safeloss

GAMMAS = (0.0, 0.5, 1.0, 2.0)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def sigmoid_focal(x: Tensor, t: Tensor, alpha: float, gamma: float) -> Tensor:
    """By the formula of the paper, for labels of 0 and 1."""
    p = torch.where(t == 1, x.sigmoid(), 1 - x.sigmoid())
    weight = torch.where(t == 1, alpha, 1 - alpha)
    return -weight * (1 - p) ** gamma * p.log()


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("alpha", [0.25, 0.5, None])
def test_sigmoid_focal(gamma: float, alpha: float | None) -> None:
    x, t = double(6, 3).requires_grad_(), torch.randint(2, (6, 3))
    loss = safeloss.SigmoidFocalLoss(alpha=alpha, gamma=gamma, reduction="none")
    expected = sigmoid_focal(x, t, 0.5 if alpha is None else alpha, gamma)
    torch.testing.assert_close(loss(x, t), expected * (2 if alpha is None else 1))
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (x,))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_focal(gamma: float, weighted: bool) -> None:
    x, t = double(6, 3, 2).requires_grad_(), torch.randint(3, (6, 2))
    t[0] = 7
    weight = torch.rand(3, dtype=torch.float64) if weighted else None
    loss = safeloss.SoftmaxFocalLoss(weight=weight, gamma=gamma, ignore_index=7)
    p = x.softmax(1).gather(1, t.clamp(max=2)[:, None])[:, 0]
    each = -((1 - p) ** gamma) * p.log() * (1 if weight is None else weight[t.clamp(max=2)])
    torch.testing.assert_close(loss(x, t), each[t != 7].mean())
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (x,))


def test_without_gamma_they_are_entropies() -> None:
    x, t, y = torch.randn(6, 3), torch.rand(6, 3), torch.randint(3, (6,))
    focal = safeloss.SigmoidFocalLoss(alpha=None, gamma=0.0)
    torch.testing.assert_close(focal(x, t), F.binary_cross_entropy_with_logits(x, t))
    torch.testing.assert_close(safeloss.SoftmaxFocalLoss(gamma=0.0)(x, y), F.cross_entropy(x, y))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("per_batch", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_dice(softmax: bool, per_batch: bool, squared: bool) -> None:
    x, t = double(2, 3, 2, 2).requires_grad_(), torch.randint(2, (2, 3, 2, 2))
    loss = safeloss.DiceLoss(softmax=softmax, per_batch=per_batch, squared=squared, smooth=0.5)
    p = x.softmax(1) if softmax else x.sigmoid()
    axes = (0, 2, 3) if per_batch else (2, 3)
    power = 2 if squared else 1
    both, each = (p * t).sum(axes), (p**power).sum(axes) + t.sum(axes)
    torch.testing.assert_close(loss(x, t), (1 - (2 * both + 0.5) / (each + 0.5)).mean())
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (x,))


def test_labels_of_one_question_are_aligned() -> None:
    x, t = torch.randn(2, 1, 4, 4), torch.randint(2, (2, 4, 4))
    for loss in (safeloss.DiceLoss(), safeloss.SigmoidFocalLoss()):
        assert torch.equal(loss(x, t), loss(x, t[:, None]))
    with pytest.raises(safeloss.LayoutError, match="class indices"):
        safeloss.DiceLoss()(torch.randn(2, 3, 4, 4), t)


LOSSES: list[tuple[Any, Callable[[], tuple[Tensor, Tensor]]]] = [
    *[
        (
            safeloss.SigmoidFocalLoss(gamma=g),
            lambda: (torch.zeros(4, 1), torch.tensor([0, 1, 1, 0])),
        )
        for g in GAMMAS
    ],
    *[
        (
            safeloss.SoftmaxFocalLoss(gamma=g),
            lambda: (torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])),
        )
        for g in GAMMAS
    ],
    *[
        (
            safeloss.DiceLoss(softmax=s, squared=q),
            lambda: (torch.zeros(4, 3, 300, 300), torch.ones(4, 3, 300, 300)),
        )
        for s, q in itertools.product((False, True), repeat=2)
    ],
    (
        safeloss.MultiLabelBCE(label_smoothing=0.1),
        lambda: (torch.zeros(4, 3), torch.randint(2, (4, 3))),
    ),
]


@pytest.mark.parametrize(("loss", "draw"), LOSSES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stable_at_logits_of_100_in_half(loss: Any, draw: Any, dtype: torch.dtype) -> None:
    loss.check_values = "never"
    for sign in (-1, 1):
        x, target = draw()
        scores = (x + 100 * sign).to(dtype)
        scores[:, 0] = -100 * sign  # the softmax is not of equal scores
        scores.requires_grad_()
        value = loss(scores, target)
        exact = loss(scores.detach().double(), target)
        assert value.isfinite()
        torch.testing.assert_close(value.double(), exact, atol=1e-3, rtol=2e-2)
        (gradient,) = torch.autograd.grad(value, scores)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_labels(smoothing: float) -> None:
    """As in Keras' `BinaryCrossentropy`: labels are `y (1 - s) + s / 2`."""
    x, t = double(6, 3).requires_grad_(), torch.randint(2, (6, 3))
    pos_weight = torch.rand(3, dtype=torch.float64)
    smooth = t.double() * (1 - smoothing) + smoothing / 2
    expected = F.binary_cross_entropy_with_logits(x, smooth, pos_weight=pos_weight)
    first = safeloss.MultiLabelBCE(pos_weight=pos_weight)
    loss = safeloss.MultiLabelBCE(pos_weight=pos_weight, label_smoothing=smoothing)
    for _ in range(2):
        first(x, t)  # of the same key
        torch.testing.assert_close(loss(x, t), expected)
        given = safeloss.functional.multilabel_binary_cross_entropy(
            x, t, pos_weight=pos_weight, label_smoothing=smoothing
        )
        assert torch.equal(given, loss(x, t))
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (x,))
    assert ("label_smoothing" in repr(loss)) == bool(smoothing)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, t), expected)


def test_smoothing_past_1_is_refused() -> None:
    with pytest.raises(safeloss.OptionError, match="label_smoothing must be between 0 and 1"):
        safeloss.MultiLabelBCE(label_smoothing=1.5)


# What others compute ------------------------------------------------------------------------------


def reference(package: str, folder: str, module: str) -> Any:
    """A module of another library, without all else that its package would import."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: nothing was compared with it")
    root = Path(spec.origin).parent
    for name, path in ((f"_{package}", root), (f"_{package}.{folder}", root / folder)):
        stub = sys.modules.setdefault(name, types.ModuleType(name))
        stub.__path__ = [str(path)]
    utils: Any = types.ModuleType(f"_{package}.utils")
    utils._log_api_usage_once = lambda *_: None  # which torchvision's loss calls
    sys.modules.setdefault(f"_{package}.utils", utils)
    return importlib.import_module(f"_{package}.{folder}.{module}")


@pytest.mark.parametrize("alpha", [-1.0, 0.25, 0.6])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.0])
def test_torchvision(alpha: float, gamma: float) -> None:
    theirs = reference("torchvision", "ops", "focal_loss").sigmoid_focal_loss
    x, t = double(6, 3), torch.rand(6, 3, dtype=torch.float64)
    for reduction in ("none", "mean", "sum"):
        ours = safeloss.SigmoidFocalLoss(alpha=alpha, gamma=gamma, reduction=reduction)
        torch.testing.assert_close(ours(x, t), theirs(x, t, alpha, gamma, reduction))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("per_batch", [False, True])
@pytest.mark.parametrize("squared", [False, True])
def test_monai(softmax: bool, per_batch: bool, squared: bool) -> None:
    losses = pytest.importorskip("monai.losses", reason="nothing was compared with MONAI")
    activation = "softmax" if softmax else "sigmoid"
    x, t = double(4, 2, 5, 5), torch.randint(2, (4, 2, 5, 5)).double()
    for smooth in (1e-5, 1.0):
        options = {"smooth_nr": smooth, "smooth_dr": smooth, activation: True}
        theirs = losses.DiceLoss(batch=per_batch, squared_pred=squared, **options)
        ours = safeloss.DiceLoss(
            softmax=softmax, per_batch=per_batch, squared=squared, smooth=smooth
        )
        torch.testing.assert_close(ours(x, t), theirs(x, t))


def test_segmentation_models_pytorch() -> None:
    theirs = reference("segmentation_models_pytorch", "losses", "dice").DiceLoss
    x, t = double(4, 2, 5, 5), torch.randint(2, (4, 2, 5, 5)).double()
    for smooth in (1e-5, 1.0):
        ours = safeloss.DiceLoss(per_batch=True, smooth=2 * smooth)
        torch.testing.assert_close(ours(x, t), theirs("multilabel", smooth=smooth)(x, t))
        binary = theirs("binary", smooth=smooth)(x[:, :1], t[:, :1])
        torch.testing.assert_close(ours(x[:, :1], t[:, 0]), binary)
