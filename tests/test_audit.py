"""An audit tells what a loss does to the samples of a batch, and leaves no trace."""

import importlib.util
import itertools
import random
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses import LOSSES, Loss
from torch import Tensor, nn

import safeloss
from safeloss import SafeCrossEntropyLoss, SafeLossError, audit
from safeloss.__main__ import main
from safeloss._audit import pictures
from safeloss._messages.fixes import evaluate

B, C, T = 8, 3, 5
PAIRS = [loss for loss in LOSSES if len(loss.batch(2)) == 2]


def scores(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def chances(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def classes(*shape: int, of: int = C) -> Tensor:
    return torch.randint(of, shape, generator=torch.Generator().manual_seed(3))


def handwritten_bce(x: Tensor, t: Tensor) -> Tensor:
    return -(t * F.logsigmoid(x) + (1 - t) * F.logsigmoid(-x)).mean()


def squared(x: Tensor, t: Tensor) -> Tensor:
    return ((x - t) ** 2).mean()


def root(x: Tensor, t: Tensor) -> Tensor:
    return squared(x, t).sqrt()


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    return F.gaussian_nll_loss(x, t, torch.ones_like(x))


def alike(x: Tensor, t: Tensor) -> Tensor:
    return F.cosine_embedding_loss(x, t, torch.ones(len(x)))


def focal(x: Tensor, t: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (each * (1 - (-each).exp()) ** 2).mean()


def dice_of_each(x: Tensor, t: Tensor) -> Tensor:
    p, t = x.sigmoid().flatten(1), t.flatten(1)
    return (1 - 2 * (p * t).sum(1) / (p.sum(1) + t.sum(1))).mean()


def dice_of_all(x: Tensor, t: Tensor) -> Tensor:
    return dice_of_each(x[None], t[None])


def info_nce(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(F.normalize(x) @ F.normalize(t).T / 0.1, torch.arange(len(x)))


def nt_xent(x: Tensor, t: Tensor) -> Tensor:
    z = F.normalize(x)
    alike = (z @ z.T / 0.5).masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    return F.cross_entropy(alike, torch.arange(len(z)) ^ 1)


def batch_hard(x: Tensor, t: Tensor) -> Tensor:
    distances, same = torch.cdist(x, x), t[:, None] == t
    furthest = distances.masked_fill(~same, -1e9).amax(1)
    return F.relu(furthest - distances.masked_fill(same, 1e9).amin(1) + 0.3).mean()


def ranked(x: Tensor, t: Tensor) -> Tensor:
    return F.softplus(x - x[:, None])[t[:, None] > t].mean()


def listwise(x: Tensor, t: Tensor) -> Tensor:
    return -(t.softmax(0) * x.log_softmax(0)).sum()


def mean_discrepancy(x: Tensor, t: Tensor) -> Tensor:
    def near(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(torch.cdist(a, b) ** 2)).mean()

    return near(x, x) + near(t, t) - 2 * near(x, t)


def nearest_target(x: Tensor, t: Tensor) -> Tensor:
    return torch.cdist(x, t).amin(1).mean()


def normalised_over_the_batch(x: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(F.batch_norm(x, None, None, training=True), t)


def hardest_half(x: Tensor, t: Tensor) -> Tensor:
    return (
        F.binary_cross_entropy_with_logits(x, t, reduction="none").topk((len(x) + 1) // 2)[0].mean()
    )


def symmetric(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x, t) + F.cross_entropy(x.T, t)


HEALTHY = [
    # loss,                          input,              target,                reduction
    (F.mse_loss,                     scores(B, 1),       scores(B, 1) / 2,      "mean"),
    (nn.MSELoss(reduction="sum"),    scores(B, 1),       chances(B, 1),         "sum"),
    (nn.L1Loss(reduction="none"),    scores(B, 2),       chances(B, 2),         "mean"),
    (squared,                        scores(B, B),       chances(B, B),         "mean"),
    (root,                           scores(B, 2),       chances(B, 2),         None),
    (root,                           scores(2),          chances(2),            None),
    (safeloss.SafeBCEWithLogitsLoss(), scores(B, 1),     chances(B) > 0.5,      "mean"),
    (handwritten_bce,                scores(B),          classes(B, of=2),      "mean"),
    (focal,                          scores(B, 1),       chances(B, 1),         "mean"),
    (dice_of_each,                   scores(B, 1, T, T), chances(B, 1, T, T),   "mean"),
    (F.cross_entropy,                scores(B, C, T, 7), classes(B, T, 7),      "mean"),
    (F.cross_entropy,                scores(B, C),       scores(B, C).softmax(1), "mean"),
    (nn.CrossEntropyLoss(chances(C)), scores(B, C),      classes(B),            "weighted mean"),
    (nn.CrossEntropyLoss(ignore_index=0), scores(B, C, T), classes(B, T),       "weighted mean"),
    (SafeCrossEntropyLoss(class_dim=-1), scores(B, T, T), classes(B, T, of=T),  "mean"),
    (nn.BCEWithLogitsLoss(),         scores(B).half(),   chances(B),            "mean"),
    (lambda x, t: x.square().mean(), scores(B, C),       chances(B),            "mean"),
]  # fmt: skip


BUGS = {
    "broadcast": [
        (F.mse_loss,                    scores(B, 1),        chances(B)),
        (F.mse_loss,                    scores(B),           chances(B, 1)),
        (F.mse_loss,                    scores(B, 1),        chances(1, B)),
        (F.mse_loss,                    scores(B, 1, T, C),  chances(B, T, C)),
        (F.l1_loss,                     scores(B, 1),        chances(B)),
        (F.smooth_l1_loss,              scores(B, 1),        chances(B)),
        (F.huber_loss,                  scores(B, 1),        chances(B)),
        (F.poisson_nll_loss,            scores(B, 1),        chances(B)),
        (partial(F.kl_div, reduction="sum"), scores(B, 1),   chances(B)),
        (F.hinge_embedding_loss,        scores(B, 1),        scores(B).sign()),
        (gaussian,                      scores(B, 1),        chances(B)),
        (F.multilabel_soft_margin_loss, scores(B, 1),        chances(B)),
        (handwritten_bce,               scores(B, 1),        classes(B, of=2)),
        (handwritten_bce,               scores(B, 1),        torch.zeros(B).long()),
        (lambda x, t: squared(x, t.float()), scores(B, 1),   chances(B) > 0.5),
        (squared,                       scores(B, 1).half(), chances(B).half()),
        (squared,                       torch.zeros(B, 1),   torch.ones(B)),
        (root,                          scores(B, 1),        chances(B)),
        (lambda x, t: squared(x.squeeze(-1), t), scores(B, 1), chances(B, 1)),
        (squared,                       scores(B, B),        chances(B)),
        (squared,                       scores(B, B, 1),     chances(B, B)),
    ],
    "softmax over the batch": [
        (F.cross_entropy,                                    scores(B),    chances(B)),
        (lambda x, t: F.nll_loss(x.log_softmax(0), t),       scores(B, C), classes(B)),
        (lambda x, t: F.binary_cross_entropy(x.softmax(0), t), scores(B),  chances(B)),
        (lambda x, t: F.cross_entropy(x.T, t),               scores(B, B), torch.arange(B)),
    ],
    "wrong class axis": [
        (F.cross_entropy, scores(B, T, T),                   classes(B, T, of=T)),
        (F.cross_entropy, scores(B, T, T),                   scores(B, T, T).softmax(-1)),
        (F.nll_loss,      scores(B, T, T).log_softmax(-1),   classes(B, T, of=T)),
        (lambda x, t: F.nll_loss(x.log_softmax(2), t), scores(B, C, T, 7), classes(B, T, 7)),
    ],
    "flat": [
        (F.cross_entropy,              scores(B, 1), torch.zeros(B).long()),
        (lambda x, t: (0 * x * t).sum(), scores(B),  chances(B)),
    ],
    "shared target": [
        (alike, scores(B, C), scores(1, C)),
        (lambda x, t: F.triplet_margin_loss(x, t, -x), scores(B, C), scores(1, C)),
    ],
}  # fmt: skip


COUPLED = {
    # What the verdict says
    "InfoNCE": [
        (info_nce, scores(B, 16), scores(B, 16) + 1),
        (nt_xent, scores(B, 16), torch.zeros(())),
        (symmetric, scores(B, B), torch.arange(B)),
    ],
    "triplet mining": [(batch_hard, scores(B, 16), torch.arange(B) // 2)],
    "ranking": [(ranked, scores(B), chances(B)), (listwise, scores(B), chances(B))],
    "statistics of the batch": [
        (dice_of_all, scores(B, 1, T, T), chances(B, 1, T, T)),
        (normalised_over_the_batch, scores(B, C), chances(B, C)),
    ],
    "how hard depends on the others": [(hardest_half, scores(B), chances(B))],
    "distances of distributions": [
        (mean_discrepancy, scores(B, C), scores(B, C) + 1),
        (nearest_target, scores(B, C), scores(B, C) + 1),
    ],
}


def rows(table: Mapping[object, list[tuple[object, ...]]]) -> list[tuple[object, ...]]:
    return [(title, *row) for title, rows in table.items() for row in rows]


@pytest.mark.parametrize("face", ["safe", "native"])
@pytest.mark.parametrize("loss", PAIRS, ids=str)
def test_every_loss_of_the_library_is_independent(loss: Loss, face: str) -> None:
    module = getattr(loss, face)(**loss.options)
    report = audit(module, *loss.batch(B))
    assert report.independent
    off_diagonal = report.influence - report.influence.diag().diag()
    assert not off_diagonal.any()
    assert report.reduction is not None
    assert not report.fixes


@pytest.mark.parametrize(("loss", "x", "target", "reduction"), HEALTHY)
def test_healthy(loss: Callable[..., Tensor], x: Tensor, target: Tensor, reduction: str) -> None:
    report = audit(loss, x, target)
    assert (report.kind, report.bug, report.independent) == ("independent", False, True)
    assert report.reduction == reduction
    assert report.influence.shape == (len(x), len(x))
    assert report.influence.diag().any()


@pytest.mark.parametrize(("kind", "loss", "x", "target"), rows(BUGS))
def test_bugs(kind: str, loss: Callable[..., Tensor], x: Tensor, target: Tensor) -> None:
    report = audit(loss, x, target)
    assert (report.kind, report.bug) == (kind, True)
    mixing = kind in ("broadcast", "softmax over the batch")
    assert report.independent is not mixing
    for fix in report.fixes:
        mended = audit(partial(run, fix, loss), x, target)
        assert mended.kind == "independent", fix


def run(fix: str, loss: Callable[..., Tensor], x: Tensor, target: Tensor) -> Tensor:
    return evaluate(fix, {"loss": loss, "input": x, "target": target})


@pytest.mark.parametrize(("said", "loss", "x", "target"), rows(COUPLED))
def test_coupled_on_purpose(
    said: str, loss: Callable[..., Tensor], x: Tensor, target: Tensor
) -> None:
    report = audit(loss, x, target)
    assert (report.kind, report.bug, report.independent) == ("coupled", False, False)
    assert said in report.verdict
    assert "If that is meant" in report.advice
    assert not report.fixes
    assert (report.influence - report.influence.diag().diag()).any()


FIXES = [
    # loss, input, target, the fixes
    (F.mse_loss, scores(B, 1), chances(B),
     ("loss(input, safeloss.align(target, like=input))",
      "safeloss.functional.mse_loss(input, target)")),
    (nn.HuberLoss(reduction="sum", delta=0.5), scores(B, 1), chances(B),
     ("loss(input, safeloss.align(target, like=input))",
      "SafeHuberLoss(reduction='sum', delta=0.5)(input, target)")),
    (squared, scores(B, 1), chances(1, B), ("loss(input, target.view_as(input))",)),
    (squared, scores(B, B), chances(B), ("loss(input, target.unsqueeze(-1).expand_as(input))",)),
    (F.cross_entropy, scores(B), chances(B), ("SafeBCEWithLogitsLoss()(input, target)",)),
    (F.cross_entropy, scores(B, T, T), classes(B, T), ("loss(input.movedim(-1, 1), target)",)),
    (lambda x, t: squared(x.squeeze(-1), t), scores(B, 1), chances(B, 1),
     ("loss(input, target.squeeze(-1))",)),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "x", "target", "fixes"), FIXES)
def test_fixes(
    loss: Callable[..., Tensor], x: Tensor, target: Tensor, fixes: tuple[str, ...]
) -> None:
    assert audit(loss, x, target).fixes == fixes


@pytest.mark.parametrize(("class_dim", "kind"), [(1, "independent"), (-1, "wrong class axis")])
def test_who_knows_the_class_axis_may_say_so(class_dim: int, kind: str) -> None:
    report = audit(F.cross_entropy, scores(B, T, T), classes(B, T), class_dim=class_dim)
    assert report.kind == kind


def test_a_class_axis_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="`class_dim` is 2, and `input` has 2 axes"):
        audit(F.cross_entropy, scores(B, C), classes(B), class_dim=2)


SHAPES = [
    # loss,                        input,         target,        shape
    (F.mse_loss,                   scores(B, 1),  chances(B),    (B, B)),
    (nn.MSELoss(),                 scores(B, 1),  chances(B),    (B, B)),
    (F.multilabel_soft_margin_loss, scores(B, 1), chances(B),    (B,)),
    (squared,                      scores(B, 1),  chances(B),    (B, B)),
    (handwritten_bce,              scores(B, 1),  chances(B),    (B, B)),
    (nn.CrossEntropyLoss(),        scores(B, C, T), classes(B, T), (B, T)),
    (lambda x, t: F.cross_entropy(x, t), scores(B, C), classes(B), None),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "x", "target", "shape"), SHAPES)
def test_the_shape_before_the_mean(
    loss: Callable[..., Tensor], x: Tensor, target: Tensor, shape: tuple[int, ...] | None
) -> None:
    assert audit(loss, x, target).per_sample_shape == shape


def test_the_influence_is_what_the_formula_says() -> None:
    """Of a squared error broadcast: the gradient of i is 2 (x_i - mean t) / B."""
    x, target = scores(B, 1), chances(B)
    moved = (target - target.roll(-1)).abs().double()
    assert torch.allclose(audit(squared, x, target).influence, (moved / moved.max()).expand(B, B))
    healthy = audit(squared, x, target[:, None]).influence
    assert torch.allclose(healthy, (moved / moved.max()).diag())


def test_the_curve_against_the_batch_size() -> None:
    x, target = scores(B, 1), chances(B)
    broken = audit(F.multilabel_soft_margin_loss, x, target)
    assert [point.batch_size for point in broken.curve] == [1, 2, 4, 8]
    assert broken.growth == pytest.approx(1, abs=0.2)
    assert "It outgrows the losses of its samples" in str(broken)
    healthy = audit(F.multilabel_soft_margin_loss, x, target[:, None])
    assert healthy.growth == pytest.approx(0)
    for point, reference in zip(healthy.curve, broken.curve):
        assert point.loss == pytest.approx(point.healthy_loss) == reference.healthy_loss
        assert point.gradient_norm == pytest.approx(point.healthy_gradient_norm)


class Stateful(nn.Module):
    """Healthy, with a buffer that every call moves and a parameter that gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen += 1
        self.eval()
        return (self.scale * (x - t) ** 2).mean() / self.seen


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_of_the_callers_changes(context: Callable[[], object]) -> None:
    def greedy(x: Tensor, t: Tensor) -> Tensor:
        noise = torch.rand(()) + random.random() + float(np.random.rand())
        return noise * module(x.mul_(2), t.add_(1))

    module = Stateful()
    x, target = scores(B, 1).requires_grad_(), chances(B)
    x.grad = torch.ones(B, 1)
    before = x.detach().clone(), target.clone(), x.grad.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    with context():
        for loss in (module, module.forward, partial(module)):
            assert audit(loss, x, target).kind == "broadcast"
        audit(lambda x, t: greedy(x, t), x, target)
        assert torch.is_grad_enabled() is (context is torch.enable_grad)
    assert all(map(torch.equal, (x, target, x.grad), before))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])
    assert np.random.get_state()[2] == states[2][2]
    assert module.scale.grad is None


class Center:
    """Not a layer: it has a tensor that calls move, and a list that grows."""

    def __init__(self) -> None:
        self.center, self.seen = torch.zeros(C), [0.0]

    def update(self, x: Tensor) -> Tensor:
        self.center.mul_(0.9).add_(x.detach().mean(0) / 10)
        self.seen.append(float(self.center.sum()))
        return self.center


STATE = {
    "layers": nn.Sequential(nn.Linear(C, C), nn.BatchNorm1d(C), nn.Dropout()),
    "calls": 0,
}


def test_what_a_function_reaches_is_as_before() -> None:
    layers = STATE["layers"]
    assert isinstance(layers, nn.Sequential)
    frozen, center, generator = nn.BatchNorm1d(C).eval(), Center(), torch.Generator()
    numbers, calls, twister = np.random.default_rng(0), [0], random.Random(0)
    layers[0].weight.grad = torch.ones(C, C)
    total = 0

    own = nn.BatchNorm1d(C)

    def loss(x: Tensor, t: Tensor, own: nn.Module = own) -> Tensor:
        nonlocal total
        total += 1
        calls[0] += 1
        STATE["calls"] += 1
        frozen.train()
        y = frozen(own(layers(x))) - center.update(x)
        noise = torch.rand((), generator=generator) + numbers.random() + twister.random()
        for parameter in layers.parameters():
            parameter.grad = None
            parameter.requires_grad_(False)
        return squared(y, t) * noise

    kept = [
        {name: value.clone() for name, value in module.state_dict().items()}
        for module in (layers, frozen, own)
    ]
    states = generator.get_state(), numbers.bit_generator.state, twister.getstate()
    report = audit(loss, scores(B, C), chances(B, C))
    assert report.kind == "coupled", "each call begins from the same state: it is steady"
    for module, before in zip((layers, frozen, own), kept):
        after = module.state_dict()
        assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert layers.training
    assert not frozen.training
    assert (total, calls, STATE["calls"], center.seen) == (0, [0], 0, [0.0])
    assert not center.center.any()
    assert torch.equal(generator.get_state(), states[0])
    assert (numbers.bit_generator.state, twister.getstate()) == states[1:]
    assert torch.equal(layers[0].weight.grad, torch.ones(C, C))
    assert all(parameter.requires_grad for parameter in layers.parameters())


def test_a_graph_that_saved_a_buffer_goes_on() -> None:
    norm = nn.BatchNorm1d(C).eval()
    waiting = norm(scores(B, C).requires_grad_()).sum()
    audit(lambda x, t: squared(norm.eval()(x), t), scores(B, C), chances(B, C))
    waiting.backward()


def test_a_module_is_audited_on_copies() -> None:
    module = Stateful()
    assert audit(module, scores(B, 1), chances(B, 1)).kind == "independent"
    assert module.seen == 0
    assert module.training
    assert module.scale.dtype == torch.float32
    assert (
        "loss(input, safeloss.align(target, like=input))"
        in audit(module, scores(B, 1), chances(B)).fixes
    )


def test_what_was_made_in_inference_mode_can_be_audited() -> None:
    with torch.inference_mode():
        x, target = scores(B, 1).double() + 1, chances(B).double() + 1
        assert audit(squared, x, target).kind == "broadcast"
    assert audit(squared, x, target).kind == "broadcast"


NOTES = [
    # loss, input, target, kind, note
    (lambda x, t: squared(F.dropout(x), t), scores(B, T), chances(B, T), "independent",
     "It draws random numbers"),
    (F.mse_loss, scores(B, 1), chances(B), "broadcast", "It warns: UserWarning: Using"),
    (squared, scores(100, 1), chances(100, 1), "independent", "64 of the 100 samples were looked"),
    (squared, scores(2, 1), chances(2), "broadcast", "2 samples show little"),
    (squared, torch.zeros(B, 1), torch.zeros(B, 1), "independent", "All inputs were alike"),
    (squared, scores(B, 1), torch.zeros(B, 1), "independent", "All targets were alike"),
    (nt_xent, scores(B, C), torch.zeros(()), "coupled", "No change of a target made a difference"),
    (nt_xent, scores(B, C), torch.zeros(()), "coupled", "It does not take a batch of one"),
    (F.l1_loss, chances(B) + 9, chances(B), "independent", "No change of a target changed a grad"),
    (lambda x, t: F.mse_loss(x @ torch.eye(C), t), scores(B, C), chances(B, C), "independent", ""),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "x", "target", "kind", "note"), NOTES)
def test_notes(
    loss: Callable[..., Tensor], x: Tensor, target: Tensor, kind: str, note: str
) -> None:
    report = audit(loss, x, target)
    assert report.kind == kind
    assert note in "\n".join(report.notes)


@pytest.mark.parametrize("draw", [0, 1])
def test_the_random_numbers_of_the_caller_decide_nothing(draw: int) -> None:
    torch.manual_seed(draw)
    report = audit(lambda x, t: squared(F.dropout(x), t), scores(B, 1), chances(B))
    assert report.kind == "broadcast"


class Explodes(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        raise KeyError("labels")


REFUSED = [
    # loss,                   input,           target,         said
    (Explodes(),              scores(B),       chances(B),     "it fails: KeyError: 'labels'"),
    (F.mse_loss,              scores(B, C),    chances(B),     "mse_loss: it cannot be audited"),
    (safeloss.SafeMSELoss(),  scores(B, C),    chances(B),     "LayoutError"),
    (squared,                 scores(1, C),    chances(1, C),  "at least 2 samples"),
    (squared,                 scores(),        chances(),      "at least 2 samples"),
    (squared,                 classes(B),      chances(B),     "only a floating `input`"),
    (squared,                 scores(B).to("meta"), chances(B), "no numbers to look at"),
    (squared,                 [1.0, 2.0],      chances(2),     "takes two tensors or more"),
    (lambda x, t: 0.0,        scores(B),       chances(B),     "it returned a float"),
    (lambda x, t: None,       scores(B),       chances(B),     "it returned None"),
    (lambda x, t: {"bce": x}, scores(B),       chances(B),     "it returned None"),
    (lambda x, t: (),         scores(B),       chances(B),     "it returned a tuple"),
    (lambda x, t: t.mean(),   scores(B),       chances(B),     "no gradient"),
    (lambda x, t: (x > t).float().mean(), scores(B), chances(B), "no gradient"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "x", "target", "said"), REFUSED)
def test_what_cannot_be_audited_is_said(
    loss: Callable[..., Tensor], x: Tensor, target: Tensor, said: str
) -> None:
    with pytest.raises(SafeLossError, match=re.escape(said)) as refused:
        audit(loss, x, target)
    assert refused.value.loss
    assert ("it fails" in str(refused.value)) is (refused.value.__cause__ is not None)


def test_a_page_is_self_contained(tmp_path: Path) -> None:
    def script_(x: Tensor, t: Tensor) -> Tensor:
        return squared(x, t)

    script_.__name__ = "<script>"
    audit(script_, scores(70, 1), chances(70)).save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("</svg>") == 4
    assert not re.search(r"https?:|src=|href=|@import|url\(|<script", page)
    assert "<code>&lt;script&gt;</code>: <span>broadcast, a bug</span>" in page
    assert "color-scheme" in page


@pytest.mark.parametrize(
    ("loss", "target"),
    [(F.mse_loss, chances(B)), (info_nce, scores(B, 1)), (Stateful(), chances(B))],
)
def test_every_report_can_be_drawn(
    loss: Callable[..., Tensor], target: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    report = audit(loss, scores(B, 1), target)
    report.save(str(tmp_path / "report.png"))
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert report._repr_html_().count("<figure>") == 4
    assert str(report).startswith(f"{report.loss}: {report.kind}")


def only_legal(x: Tensor, t: Tensor) -> Tensor:
    if not torch.equal(t, torch.arange(float(len(t)))):
        raise ValueError("these are other targets")
    return squared(x, t)


UNDECIDED = {
    # kind: loss, input, target
    "not finite": (F.cross_entropy, scores(B, C), torch.full((B,), -100)),
    "no gradient": (lambda x, t: F.relu(x) * t, -chances(B), chances(B)),
    "untested": (only_legal, scores(B), torch.arange(float(B))),
    "unsteady": (lambda x, t: squared(x, t) + next(CALLS), scores(B), chances(B)),
}
CALLS = itertools.count()


@pytest.mark.parametrize("kind", UNDECIDED)
def test_no_verdict_is_said_to_be_none(kind: str, tmp_path: Path) -> None:
    report = audit(*UNDECIDED[kind])
    assert (report.kind, report.bug, report.independent) == (kind, False, False)
    assert report.verdict.startswith("No verdict: ")
    assert f": no verdict, {kind}\n" in str(report)
    assert ("? ? ? ?" in str(report)) is (kind in ("not finite", "unsteady"))
    report.save(tmp_path / "report.html")


REFERENCE = pictures._REFERENCE


def test_the_colour_is_that_of_the_verdict() -> None:
    x, t = scores(B, 1), scores(B, 1) / 2
    pages = [
        audit(loss, x, target)._repr_html_()
        for loss, target in ((squared, t), (squared, t[:, 0]), (info_nce, t))
    ]
    hues = [re.findall(r"--hue: (#\w+)", page)[0] for page in pages]
    assert len({*hues, REFERENCE}) == 4
    for page in pages:
        assert REFERENCE in page
        assert page.count(">sample j</text>") == page.count(">gradient of input i</text>") == 2
        assert page.count(">batch size B</text>") == 2
    assert "Fix: <code>loss(input, safeloss.align(target, like=input))</code>" in pages[1]


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = audit(F.mse_loss, scores(B, 1), chances(B))
    with pytest.raises(ValueError, match=r"report\.pdf' ends neither in \.html nor in \.png"):
        report.save(tmp_path / "report.pdf")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "safeloss\[demo\]"'):
        report.save(tmp_path / "report.png")


TRAIN = '''
"""A training script."""
import dataclasses
import itertools
import torch
from torch import nn
from neighbour import power

@dataclasses.dataclass
class Config:
    rate: float = 0.1

def loss(logits, labels):
    return power(logits - labels).mean()

class Loss(nn.MSELoss):
    pass

class Needs(nn.Module):
    def __init__(self, margin):
        super().__init__()

instance = nn.MSELoss()
number = 3

def contrastive(a, b):
    return torch.nn.functional.cross_entropy(a @ b.T, torch.arange(len(a)))

def noisy(a, b):
    return ((a - b) ** 2).mean() + next(calls)

calls = itertools.count()

def logarithm(p, t):
    return -(t * p.log()).mean()

def margin(p, t):
    return (p - t - 5).relu().mean()

def siamese(a, b, label):
    distance = torch.nn.functional.pairwise_distance(a, b, keepdim=True)
    return ((1 - label) * distance ** 2 + label * (2 - distance).relu() ** 2).mean()

if __name__ == "__main__":
    raise SystemExit("trained")
'''


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "neighbour.py").write_text("def power(x):\n    return x ** 2\n")
    (tmp_path / "script.py").write_text("raise SystemExit('trained')\n")
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "neighbour", raising=False)
    return tmp_path


LINES = {
    # By exit code: the loss, its tensors, and what is said.
    0: [
        ("train.py:loss", "float32[8,1] float32[8,1]", "loss: independent"),
        ("train.py:siamese", "float32[8,4] float32[8,4] int64[8,1]", "siamese: independent"),
        ("train.py:instance", "float32[8] float64[8]", "MSELoss: independent"),
        ("train.py:contrastive", "float32[8,4] float32[8,4]", "coupled, which may be meant"),
        ("torch.nn:CrossEntropyLoss", "float32[8,3,7] int64[8,7]", "independent"),
        ("torch.nn:CrossEntropyLoss", "float32[8,5,5] int64[8,5] --class-dim 1", "independent"),
        ("torch.nn:BCELoss", "float32[8,3] float32[8,3] --activation sigmoid", "independent"),
        ("torch.nn:NLLLoss", "float32[8,3] int64[8] --activation log_softmax", "independent"),
    ],
    1: [
        ("train.py:loss", "float32[8,1] int64[8]", "loss: broadcast, a bug"),
        ("train.py:Loss", "float32[8,1] float32[8]", "Loss: broadcast, a bug"),
        ("train.py:siamese", "float32[8,4] float32[8,4] int64[8]", "against the `label` of all 8"),
        ("torch.nn:CrossEntropyLoss", "float32[8,5,5] int64[8,5]", "wrong class axis, a bug"),
        ("torch.nn:CrossEntropyLoss", "float32[8,1] int64[8] --classes 1", "flat, a bug"),
    ],
    2: [
        ("train.py:noisy", "float32[8] float32[8]", "noisy: no verdict, unsteady"),
        ("train.py:logarithm", "float32[8] float32[8]", "logarithm: no verdict, not finite"),
        ("train.py:margin", "float32[8] float32[8]", "margin: no verdict, no gradient"),
        ("train.py:loss", "float32[8,3] float32[8]", "loss: it cannot be audited"),
        ("torch.nn:BCELoss", "float32[8] bool[8] --activation sigmoid", "it cannot be audited"),
        ("train.py:lost", "float32[8] float32[8]", "Did you mean 'loss'?"),
        ("train.py:Needs", "float32[8] float32[8]", "cannot be made without arguments"),
        ("train.py:number", "float32[8] float32[8]", "cannot be called: it is of type int"),
        ("train.py", "float32[8] float32[8]", "is no PATH.py:FUNCTION"),
        ("no.py:loss", "float32[8] float32[8]", "there is no file 'no.py'"),
        ("no.such:loss", "float32[8] float32[8]", "there is no module 'no.such'"),
        ("broken.py:loss", "float32[8] float32[8]", "No module named 'no_such_package'"),
        ("script.py:loss", "float32[8] float32[8]", "SystemExit: trained"),
    ],
}


@pytest.mark.usefixtures("train")
@pytest.mark.parametrize(("code", "loss", "tensors", "said"), rows(LINES))
def test_the_command_line(
    code: int, loss: str, tensors: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x, *rest = tensors.split()
    targets = [word for each in rest if "[" in each for word in ("--target", each)]
    options = [each for each in rest if "[" not in each]
    assert main(["audit", loss, "--input", x, *targets, *options]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    assert bool(shown.err) is (code == 2 and "no verdict" not in said)


WRONG = [
    ("--input float32[8,1 --target float32[8]", "'float32[8,1' is no dtype and shape"),
    ("--input float31[8] --target float32[8]", "torch has no dtype 'float31'"),
    ("--input float32[8] --target float32[8] --output report.pdf", "ends neither in"),
    ("--input float32[8]", "required: --target"),
]


@pytest.mark.parametrize(("line", "said"), WRONG)
def test_a_wrong_command_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["audit", "torch.nn:MSELoss", *line.split()])
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["audit", "--help"])
    assert left.value.code == 0
    assert (
        'python -m safeloss audit train.py:loss --input "float32[8,1]"' in capsys.readouterr().out
    )


@pytest.mark.usefixtures("train")
def test_a_picture_without_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = "torch.nn:MSELoss --input float32[8] --target float32[8] --output report.png"
    assert main(["audit", *line.split()]) == 2
    assert 'pip install "safeloss[demo]"' in capsys.readouterr().err


@pytest.mark.slow
def test_in_a_process_of_its_own(train: Path) -> None:
    line = "audit train.py:loss --input float32[8,1] --target int64[8] --output report.html"
    run = subprocess.run(
        [sys.executable, "-m", "safeloss", *line.split()],
        capture_output=True,
        text=True,
        cwd=train,
        env={"PYTHONPATH": str(Path(safeloss.__file__).parent.parent)},
    )
    assert (run.returncode, run.stderr) == (1, "")
    assert "Fix: loss(input, safeloss.align(target, like=input))" in run.stdout
    assert (train / "report.html").exists()


class Making(OrderedDict):
    """A table that makes a value when it is asked for, as `transformers` makes activations."""

    def __getitem__(self, key):
        return super().__getitem__(key)(0)

    def copy(self):
        raise NotImplementedError


def test_containers_that_make_their_values_are_put_back_as_they_are() -> None:
    made = Making(one=len, two=nn.Linear(2, 2).forward)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        made.setdefault("three", print)
        assert len(made) == 3
        return ((x - y) ** 2).mean()

    assert audit(loss, torch.randn(8, 1), torch.randn(8, 1)).independent
    assert [*made] == ["one", "two"]
