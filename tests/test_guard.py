"""What the guard finds in native losses and in operators, and what it leaves alone."""

import contextlib
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from losses import LOSSES, Loss
from torch import nn

import safeloss
from safeloss import guard

B, C, T, H = 4, 3, 5, 2
scores, chances = torch.randn, torch.rand
signs = lambda *shape: torch.randn(shape).sign()  # noqa: E731  # a row is one line
classes = lambda *shape: torch.randint(2, shape)  # noqa: E731

# The hazards of `docs/why.md`: what native computes without an error, and is not what was meant.
HAZARDS = [
    # native,                          arguments
    *((native, (scores(B, 1), chances(B)))
      for native in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.poisson_nll_loss,
                     F.kl_div, F.hinge_embedding_loss, F.multilabel_soft_margin_loss)),
    (F.gaussian_nll_loss,              (scores(B, 1), scores(B), chances(B, 1))),
    (F.mse_loss,                       (scores(B), chances(B, 1))),
    (F.l1_loss,                        (scores(B, 1), chances(1, B))),
    (F.mse_loss,                       (scores(B, C), chances(B, 1))),
    (F.mse_loss,                       (scores(B, C), chances(1, C))),
    (F.mse_loss,                       (scores(B, B), chances(B))),
    (F.smooth_l1_loss,                 (scores(B, B, 1), chances(B, B))),
    (F.l1_loss,                        (scores(B, 1, B, H), chances(B, B, H))),
    (F.cross_entropy,                  (scores(B), chances(B))),
    (F.cross_entropy,                  (scores(B, 1), classes(B) * 0)),
    (F.cross_entropy,                  (scores(B, 1, H, H), classes(B, H, H) * 0)),
    (F.cross_entropy,                  (scores(B, T, T), classes(B, T))),
    (F.nll_loss,                       (scores(B, T, T), classes(B, T))),
    (F.nll_loss,                       (scores(B, 1), classes(B) * 0)),
    (F.cosine_embedding_loss,          (scores(B, C), scores(1, C), signs(B))),
    (F.triplet_margin_loss,            (scores(B, C), scores(1, C), scores(B, C))),
    (F.triplet_margin_with_distance_loss, (scores(B, C), scores(B, C), scores(1, C))),
    (F.margin_ranking_loss,            (scores(B, 1), scores(1, B), signs(B, B))),
]  # fmt: skip

WEIGHTS = [
    # native,                             arguments,                           weights
    (F.binary_cross_entropy_with_logits,  (scores(B, C, H, C), chances(B, C, H, C)), chances(C)),
    (F.multilabel_soft_margin_loss,       (scores(B, 1), chances(B, 1)),       chances(B)),
]  # fmt: skip

HEALTHY = [
    # native,                             arguments
    (F.mse_loss,                          (scores(B, 1), chances(B, 1))),
    (F.mse_loss,                          (scores(B, C), chances(B, C).double())),
    (F.mse_loss,                          (scores(1, B), chances(B))),  # each meets its own
    (F.l1_loss,                           (scores(C, H), chances(1, C, H))),
    (F.mse_loss,                          (scores(1), chances(()))),
    (F.mse_loss,                          (scores(1, 1), chances(1))),
    (F.mse_loss,                          (scores(0, C), chances(0, C))),  # a mean over nothing
    (F.mse_loss,                          (scores(B, C), chances(B, C).expand(B, C))),
    (F.cross_entropy,                     (scores(B, C), classes(B))),
    (F.cross_entropy,                     (scores(B, C, T), classes(B, T))),
    (F.cross_entropy,                     (scores(B, B), classes(B))),
    (F.cross_entropy,                     (scores(B, C, H, H), classes(B, H, H))),
    (F.cross_entropy,                     (scores(B, T, T), chances(B, T, T).softmax(1))),
    (F.cross_entropy,                     (scores(C), classes())),
    (F.cross_entropy,                     (scores(B, C), torch.full((B,), -100))),
    (F.binary_cross_entropy_with_logits,  (scores(B, C), chances(B, C), chances(C))),
    (F.binary_cross_entropy_with_logits,  (scores(B, B), chances(B, B), chances(B, 1))),
    (F.binary_cross_entropy_with_logits,  (scores(B), torch.full((B,), 2.0))),  # numbers: unread
    (F.nll_loss,                          (scores(B, C), classes(B))),
    (F.gaussian_nll_loss,                 (scores(B, C), scores(B, C), chances(B, 1))),
    (F.multi_margin_loss,                 (scores(C), classes(1))),
]  # fmt: skip

# Native says no, by itself and in its own words.
REFUSED_BY_NATIVE = [
    (F.binary_cross_entropy_with_logits,  (scores(B, 1), chances(B))),
    (F.soft_margin_loss,                  (scores(B, 1), signs(B))),
    (F.margin_ranking_loss,               (scores(B, 1), scores(B, 1), signs(B))),
    (F.cross_entropy,                     (scores(B, T, C), classes(B, T))),
    (F.cross_entropy,                     (scores(B, C), chances(B))),
    (F.cross_entropy,                     (scores(B, C), classes(B, C))),
    (F.mse_loss,                          (scores(B, C), chances(B))),
    (F.mse_loss,                          (scores(B, C), None)),
]  # fmt: skip


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


@pytest.mark.parametrize(("native", "args"), HAZARDS)
def test_hazards_are_found(native, args) -> None:
    quiet(native, *args)
    with pytest.raises(safeloss.LayoutError, match=f"^{native.__name__}: "), guard():
        quiet(native, *args)


@pytest.mark.parametrize(("native", "args", "weight"), WEIGHTS)
def test_weights_on_a_wrong_axis_are_found(native, args, weight) -> None:
    logits = native is F.binary_cross_entropy_with_logits
    weights = {"pos_weight" if logits else "weight": weight}
    native(*args, **weights)
    with pytest.raises(safeloss.LayoutError), guard():
        native(*args, **weights)


@pytest.mark.parametrize(("native", "args"), HEALTHY)
def test_what_native_computes_rightly_is_left_alone(native, args) -> None:
    with guard(arithmetic=True) as findings:
        quiet(native, *args)
    assert findings.calls == 1
    assert findings == []


@pytest.mark.parametrize(("native", "args"), REFUSED_BY_NATIVE)
def test_what_native_refuses_is_its_own_to_say(native, args) -> None:
    said = []
    for watching in (contextlib.nullcontext(), guard(arithmetic=True)):
        with watching, pytest.raises((RuntimeError, ValueError, AttributeError)) as refusal:
            quiet(native, *args)
        said.append((type(refusal.value), str(refusal.value)))
    assert said[0] == said[1]


SHAPES = [
    *(shape for rank in range(3) for shape in itertools.product((1, 2), repeat=rank)),
    *[(3,), (3, 1), (1, 3), (2, 1, 2), (1, 2, 2), (2, 2, 1)],
]
PAIRS = [
    loss for loss in LOSSES if len(loss.batch(2)) == 2 and loss.safe is not safeloss.MultiLabelBCE
]


@pytest.mark.parametrize("loss", PAIRS, ids=str)
def test_found_is_what_native_computes_and_ours_does_not(loss: Loss) -> None:
    """Over all small shapes, with numbers as the oracle."""
    found = 0
    dtypes = [value.dtype for value in loss.batch(2)]
    for shapes in itertools.product(SHAPES, repeat=2):
        args = [torch.rand(shape).to(dtype) for shape, dtype in zip(shapes, dtypes)]
        try:
            value = quiet(loss.native_kernel, *args, reduction="sum")
        except (RuntimeError, ValueError, IndexError):
            continue
        try:
            ours = quiet(loss.kernel, *args, reduction="sum")
        except safeloss.SafeLossError:
            ours = None
        with guard(on="log") as findings:
            quiet(loss.native_kernel, *args, reduction="sum")
        assert bool(findings) == (ours is None or not torch.allclose(ours, value)), shapes
        found += len(findings)
    never = (nn.BCELoss, nn.BCEWithLogitsLoss)  # native broadcasts in none of them
    assert found > 0 or loss.native in never
