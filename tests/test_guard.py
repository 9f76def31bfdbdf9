"""What the guard finds in native losses and in operators, and what it leaves alone."""

import asyncio
import contextlib
import contextvars
import functools
import itertools
import os
import runpy
import subprocess
import sys
import sysconfig
import threading
import types
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from losses import LOSSES, PUBLIC, Loss
from torch import nn
from torch.overrides import TorchFunctionMode

import safeloss
from safeloss import _hazards, allow, guard, trace
from safeloss import functional as SF
from safeloss.__main__ import main
from safeloss._hazards.cases import cases
from safeloss._hazards.oracle import answer
from safeloss._hazards.outcomes import asked, native_of, outcomes
from safeloss._messages import expressions
from safeloss._messages import stack as _frames
from safeloss._messages.stack import is_users
from safeloss._torch import active_modes, leave

DOCS = Path(__file__).parents[1] / "docs"

needs_positions = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="instructions have no positions yet"
)

B, C, T, H = 4, 3, 5, 2
scores, chances = torch.randn, torch.rand
signs = lambda *shape: torch.randn(shape).sign()  # noqa: E731  # a row is one line
classes = lambda *shape: torch.randint(2, shape)  # noqa: E731

# The hazards of `docs/why.md`: what PyTorch computes without an error, and nobody has meant.
HAZARDS = [
    # native,                          arguments
    *((native, (scores(B, 1), chances(B)))
      for native in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.poisson_nll_loss,
                     F.kl_div, F.hinge_embedding_loss, F.multilabel_soft_margin_loss)),
    (F.gaussian_nll_loss,              (scores(B, 1), scores(B), chances(B, 1))),
    (F.mse_loss,                       (scores(B), chances(B, 1))),
    (F.multilabel_soft_margin_loss,    (scores(C), chances(1, C))),  # divides by the wrong axis
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

# PyTorch says no, by itself and in its own words.
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


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    left = active_modes()
    for mode in left:
        leave(mode)
    assert left == []


def quiet(function, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


@pytest.mark.parametrize(("native", "args"), HAZARDS)
def test_hazards_are_found(native, args) -> None:
    quiet(native, *args)
    with pytest.raises(safeloss.LayoutError, match=rf"\] {native.__name__}: "), guard():
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
    loss
    for loss in LOSSES
    if loss.native_kernel is not None
    and len(loss.batch(2)) == 2
    and loss.safe is not safeloss.MultiLabelBCE
]


def results(kernel, args, **options) -> torch.Tensor:
    reductions = ("none", "mean", "sum")
    return torch.cat([quiet(kernel, *args, reduction=r, **options).flatten() for r in reductions])


@pytest.mark.parametrize("loss", PAIRS, ids=str)
def test_found_is_what_native_computes_and_ours_does_not(loss: Loss) -> None:
    """Over all small shapes, with numbers as the oracle."""
    found = 0
    dtypes = [value.dtype for value in loss.batch(2)]
    for shapes in itertools.product(SHAPES, repeat=2):
        args = [torch.rand(shape).to(dtype) for shape, dtype in zip(shapes, dtypes)]
        try:
            with guard(on="log") as findings:
                values = results(loss.native_kernel, args)
        except (RuntimeError, ValueError, IndexError):
            continue
        try:
            ours = results(loss.kernel, args, check_values="never")
            same = ours.shape == values.shape and torch.allclose(ours, values)
        except safeloss.SafeLossError:
            same = False
        if findings and "one class" in str(findings[0]):
            same = False  # its labels are 0, which ours takes for a sign that one class is meant
        assert bool(findings) is not same, shapes
        found += len(findings)
    never = (nn.BCELoss, nn.BCEWithLogitsLoss)  # PyTorch broadcasts in none of them
    assert found > 0 or loss.native in never


@pytest.mark.slow
def test_every_hazard_of_shapes_is_found_and_nothing_else() -> None:
    """The grid of `python -m safeloss hazards`, and its oracle: PyTorch on one sample at a time."""
    seen: Counter[tuple[bool, bool]] = Counter()  # whether PyTorch is wrong, and the guard finds it
    for safe in _hazards.LOSSES.values():
        native = native_of(safe)
        rows = outcomes(safe)
        declared = [(row.section, row.shapes) for row in rows if row.safe.outcome == "right"]
        for case, row in zip(cases(safe), rows):
            if case.slip is not None or "B == 0" in case.call or "ValueRange" in row.safe.gave:
                continue  # numbers, which are not read, and means over nothing
            if row.safe.outcome == "warns" and (row.section, row.shapes) in declared:
                continue  # only the numbers tell it from the call that is as declared
            with guard(on="log") as findings:
                answer(asked(native, case), case.drawn())
            wrong = row.native.outcome in ("silent", "warns", "repeats")
            undecided = "Ambiguous" in row.safe.gave
            assert bool(findings) is (wrong or undecided), (row.call, row.about)
            if wrong or row.native.outcome == "right":
                seen[wrong, bool(findings)] += 1
    page = " ".join((DOCS / "diagnose.md").read_text().split())
    if torch.__version__.startswith("2.13"):
        assert f"{seen[True, True]} were found and none was missed" in page
        right = seen[False, True] + seen[False, False]
        assert f"of the {right} that it computes rightly, the {seen[False, True]} in which" in page


# Messages ----------------------------------------------------------------------------------------

BROADCAST = (scores(8, 1), chances(8))


def found(**options) -> list[safeloss.Finding]:
    """What a guard logs of one silent broadcast."""
    with guard(on="log", **options) as findings:
        F.poisson_nll_loss(*BROADCAST)
    return findings


def test_a_finding_is_data_and_a_message() -> None:
    (finding,) = found()
    assert (finding.loss, finding.file) == ("poisson_nll_loss", __file__)
    assert finding.source == "F.poisson_nll_loss(*BROADCAST)"
    assert finding.shapes == {"input": (8, 1), "target": (8,)}
    assert finding.error.fixes[0] == "target.unsqueeze(1)"
    assert str(finding).endswith(f"{finding.line}: {finding.source}\n{finding.error}")
    assert "broadcasts to [8, 8]" in finding.error.native


def test_a_module_is_named_and_the_safe_one_offered() -> None:
    loss = nn.GaussianNLLLoss(reduction="sum", full=True)
    args = (scores(8, 1), scores(8), chances(8, 1))
    with pytest.raises(safeloss.LayoutError, match=r"\] GaussianNLLLoss: ") as refusal, guard():
        loss(*args)
    view, swap = refusal.value.fixes
    assert view == "target.unsqueeze(1)"
    named = dict(zip(("input", "target", "var"), args))
    value = eval(swap, {**PUBLIC, **named})
    assert value == loss(args[0], args[1].view_as(args[0]), args[2])


def test_every_fix_silences() -> None:
    for native, args in HAZARDS:
        with guard(on="log") as findings:
            quiet(native, *args)
        names = list(findings[0].shapes)
        for fix in findings[0].error.fixes:
            changed = dict(zip(names, args))
            try:
                value = quiet(
                    eval, fix, {**PUBLIC, "safeloss": safeloss, "torch": torch, **changed}
                )
            except safeloss.ValueRangeError:  # the numbers here are random
                continue
            if fix.startswith(tuple(names)):
                changed[fix.partition(".")[0]] = value
                with guard():
                    quiet(native, *changed.values())


# What the lines of a table below are in: `{line}` stands for one of them.
PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model, x, batch = nn.Linear(3, 1), torch.randn(8, 3), {"y": torch.rand(8)}
criterion = nn.PoissonNLLLoss(log_input=False)
pred = model(x)
net = nn.ModuleDict({"loss": nn.HingeEmbeddingLoss()})


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.loss = nn.GaussianNLLLoss()

    def forward(self, scores, labels, var):
        return self.loss(scores, labels, var=var)


class Doubled(nn.L1Loss):
    def forward(self, input, target):
        return 2 * super().forward(input, target)


def distance(a, b):
    return F.pairwise_distance(a, b, keepdim=True)


def step():
    return {line}


RESULT = step()
"""
LINES = [
    # the user's line, and what is mended of it if that is not all; names in the table; fixes
    ('F.mse_loss(pred, batch["y"])',           ("pred", 'batch["y"]'),
     ('F.mse_loss(pred, batch["y"].unsqueeze(1))',
      'safeloss.functional.mse_loss(pred, batch["y"])')),
    ('F.mse_loss(model(x), target=batch["y"], reduction="sum")', ("model(x)", 'batch["y"]'),
     ('F.mse_loss(model(x), target=batch["y"].unsqueeze(1), reduction="sum")',
      "safeloss.functional.mse_loss(model(x), batch[\"y\"], reduction='sum')")),
    ('criterion(model(x).exp(), batch["y"])',  ("model(x).exp()", 'batch["y"]'),
     ('criterion(model(x).exp(), batch["y"].unsqueeze(1))',
      'SafePoissonNLLLoss(log_input=False)(model(x).exp(), batch["y"])')),
    ('net["loss"](model(x), batch["y"].sign())', ("model(x)", 'batch["y"].sign()'),
     ('net["loss"](model(x), batch["y"].sign().unsqueeze(1))',
      'SafeHingeEmbeddingLoss()(model(x), batch["y"].sign())')),
    ('Model()(pred, batch["y"], torch.ones(8, 1))', ("scores", "labels", "var"),
     ("self.loss(scores, labels.unsqueeze(1), var=var)",
      "SafeGaussianNLLLoss()(scores, labels, var)")),
    ('Doubled()(pred, batch["y"])',            ("input", "target"),
     ("super().forward(input, target.unsqueeze(1))", "SafeL1Loss()(input, target)")),
    ('F.smooth_l1_loss(*[pred, batch["y"]])',  ("input", "target"),
     ("target.unsqueeze(1)", "safeloss.functional.smooth_l1_loss(input, target)")),
    ('((pred - batch["y"]) ** 2).mean()',      ("pred", 'batch["y"]'),
     ('pred - batch["y"].unsqueeze(1)', 'pred - safeloss.align(batch["y"], like=pred)')),
    ('(batch["y"] * model(x).sigmoid().log()).mean()',
     ("model(x).sigmoid().log()", 'batch["y"]'),
     ('batch["y"].unsqueeze(1) * model(x).sigmoid().log()',
      'safeloss.align(batch["y"], like=(other := model(x).sigmoid().log())) * other')),
    ('(pred > 0) == (batch["y"] > 0.5)',       ("pred > 0", 'batch["y"] > 0.5'),
     ('(pred > 0) == (batch["y"] > 0.5).unsqueeze(1)',
      '(pred > 0) == safeloss.align(batch["y"] > 0.5, like=pred > 0)')),
    ('torch.sub(model(x), other=batch["y"])',  ("model(x)", 'batch["y"]'),
     ('torch.sub(model(x), other=batch["y"].unsqueeze(1))',
      'torch.sub(input := model(x), other=safeloss.align(batch["y"], like=input))')),
    ('torch.sub(pred, batch["y"], alpha=2)',   ("pred", 'batch["y"]'),
     ('torch.sub(pred, batch["y"].unsqueeze(1), alpha=2)',
      'torch.sub(pred, safeloss.align(batch["y"], like=pred), alpha=2)')),
    ('model(x).sub(batch["y"])',               ("model(x)", 'batch["y"]'),
     ('model(x).sub(batch["y"].unsqueeze(1))',
      '(input := model(x)).sub(safeloss.align(batch["y"], like=input))')),
    ('batch["y"].sub(model(x))',               ("model(x)", 'batch["y"]'),
     ('batch["y"].unsqueeze(1).sub(model(x))',
      'safeloss.align(batch["y"], like=(other := model(x))).sub(other)')),
    ('torch.where(batch["y"] > 0.5, pred, 0.0)', ("pred", 'batch["y"] > 0.5'),
     ('torch.where((batch["y"] > 0.5).unsqueeze(1), pred, 0.0)',
      'torch.where(safeloss.align(batch["y"] > 0.5, like=pred), pred, 0.0)')),
    ("(1 - batch['y']) * distance(x, x + 1)",  ("distance(x, x + 1)", "1 - batch['y']"),
     ("(1 - batch['y']).unsqueeze(1) * distance(x, x + 1)",
      "safeloss.align(1 - batch['y'], like=(other := distance(x, x + 1))) * other")),
    ('torch.mul(*[pred, batch["y"]])',         ("input", "other"),
     ("other.unsqueeze(1)", "safeloss.align(other, like=input)")),
    ('(pred) - [*batch.values()][0]',          ("pred", "[*batch.values()][0]"),
     ("pred - [*batch.values()][0].unsqueeze(1)",
      "pred - safeloss.align([*batch.values()][0], like=pred)")),
]  # fmt: skip


# Where no more than a part of the program is mended, and not the line.
PARTS = [
    "self.loss(scores, labels, var=var)",
    "super().forward(input, target)",
    'pred - batch["y"]',
    'batch["y"] * model(x).sigmoid().log()',
]


@needs_positions
@pytest.mark.parametrize(("line", "names", "fixes"), LINES)
def test_a_finding_is_in_the_names_of_its_line(line, names, fixes, tmp_path: Path) -> None:
    program = PROGRAM.replace("{line}", line)
    (tmp_path / "train.py").write_text(program)
    with guard(on="log", arithmetic=True) as findings:
        quiet(runpy.run_path, str(tmp_path / "train.py"))
    error = findings[0].error
    assert tuple(error.expressions.get(row.name, row.name) for row in error.arguments) == names
    assert tuple(error.calls.get(fix, fix) for fix in error.fixes) == fixes
    assert findings[0].fix == fixes[0]
    if not error.calls:  # the names of the parameters: they stand in no line
        return
    # Each of them, pasted over what is wrong, is right.
    source = findings[0].source.removeprefix("return ")
    wrong = next((part for part in PARTS if part in source), source)
    for number, fix in enumerate(fixes):
        mended = tmp_path / f"mended{number}.py"
        mended.write_text(f"import safeloss\nfrom safeloss import *\n{program.replace(wrong, fix)}")
        with guard(arithmetic=True):
            result = quiet(runpy.run_path, str(mended))["RESULT"]
        assert result.numel() <= 8


@needs_positions
@pytest.mark.parametrize("arithmetic", [False, True])
def test_a_finding_in_a_library_keeps_its_names_and_tells_the_users_line(
    arithmetic: bool, tmp_path: Path
) -> None:
    library = tmp_path / "site-packages" / "lightning_like" / "losses.py"
    library.parent.mkdir(parents=True)
    body = "x - y" if arithmetic else "torch.nn.functional.poisson_nll_loss(x, y)"
    library.write_text(f"import torch\n\n\ndef loss(x, y):\n    return {body}\n")
    loss = runpy.run_path(str(library))["loss"]
    with guard(on="log", arithmetic=True) as findings:
        loss(*BROADCAST)
    (error,) = [finding.error for finding in findings]
    (told,) = [line for line in str(error).splitlines() if line.startswith("lightning_like")]
    did = "computes this" if arithmetic else "called this loss"
    assert told.startswith(f"lightning_like {did}, and your line is ")
    assert told.endswith("loss(*BROADCAST)")
    assert (error.expressions, error.calls) == ({}, {})
    assert findings[0].fix == ("other" if arithmetic else "target") + ".unsqueeze(1)"


def test_names_are_looked_for_only_where_something_is_found(monkeypatch) -> None:
    reads: list[object] = []
    monkeypatch.setattr(expressions, "_place", lambda frame: reads.append(frame))
    with guard(on="log", arithmetic=True) as findings:
        for args in ((scores(8, 1), chances(8, 1)), (scores(8, 1), chances(8, 1))):
            F.poisson_nll_loss(*args)
            args[0] - args[1]
        assert reads == []
        for _ in range(3):
            F.poisson_nll_loss(*BROADCAST)
    assert len(findings) == 1
    assert len(reads) == 1


def test_log_counts_and_warn_warns_once_for_each_line() -> None:
    with guard(on="warn") as findings, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            F.poisson_nll_loss(*BROADCAST)
        F.hinge_embedding_loss(*BROADCAST)
    assert {warning.category for warning in said} == {safeloss.SuspiciousInputWarning}
    assert [finding.count for finding in findings] == [3, 1]
    assert [warning.filename for warning in said] == [__file__] * 2
    assert [warning.lineno for warning in said] == [finding.line for finding in findings]
    for warning, finding in zip(said, findings):  # Python names the place, and so do we not
        assert str(warning.message) == str(finding.error)
        shown = warnings.formatwarning(
            warning.message, warning.category, warning.filename, warning.lineno
        )
        assert shown.count(f"test_guard.py:{finding.line}") == 1
        assert shown.count(finding.source) == 1
    assert "(3 times)" in str(findings[0])
    assert findings.calls == 4


@pytest.mark.parametrize("on", ["raise", "log"])
def test_natives_own_warning_as_an_error(on) -> None:
    expected = safeloss.LayoutError if on == "raise" else UserWarning
    with guard(on=on) as findings, pytest.raises(expected):
        F.mse_loss(*BROADCAST)
    assert len(findings) == 1


def test_a_decorator_begins_anew_with_each_call() -> None:
    @guard()
    def step(depth: int) -> None:
        if depth:
            step(depth - 1)
        F.poisson_nll_loss(*BROADCAST)

    for _ in range(2):
        with pytest.raises(safeloss.LayoutError):
            step(2)
    assert active_modes() == []


@pytest.mark.parametrize("options", [{"on": "print"}, {"allow": "*.py"}])
def test_options_are_checked_at_once(options) -> None:
    with pytest.raises(ValueError, match=r"^guard: "):
        guard(**options)


def test_allowed_in_some_lines_or_files() -> None:
    @safeloss.allow()
    def pairwise():
        return F.poisson_nll_loss(*BROADCAST)

    with guard():
        pairwise()
        with safeloss.allow():
            F.poisson_nll_loss(*BROADCAST)
    with pytest.raises(safeloss.LayoutError), guard():
        F.poisson_nll_loss(*BROADCAST)
    assert found(allow=["*/test_guard.py"]) == []
    assert len(found(allow=["*/third_party/*"])) == 1


def test_our_own_losses_are_not_looked_at() -> None:
    tied = scores(4, 5, 5), classes(4, 5)
    with guard(arithmetic=True) as findings:
        for loss in LOSSES:
            quiet(loss.safe(**loss.options), *loss.batch(4))
        SF.mse_loss(scores(8, 1), chances(8))
        for axis in (1, -1):
            safeloss.SafeCrossEntropyLoss(class_dim=axis, empty="zero")(*tied)
    assert findings == []


def test_a_call_site_remembers_its_class_axis() -> None:
    with guard() as findings:
        for length in (7, 5, C, 6):
            F.cross_entropy(scores(B, C, length), torch.randint(C, (B, length)))
    assert findings == []


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss, F.multi_margin_loss])
def test_a_line_that_saw_several_classes_may_end_in_one(loss) -> None:
    """In a contrastive loss the samples are the classes, so the last batch may have one class."""
    with guard() as findings:
        for size in (8, 8, 1):
            loss(scores(size, 4) @ scores(size, 4).T, torch.arange(size))
    assert findings.calls == 3


def test_what_one_line_has_seen_is_not_known_to_another() -> None:
    with guard(on="log") as findings:
        F.cross_entropy(scores(8, 8), torch.arange(8))
        F.cross_entropy(scores(8, 1), classes(8) * 0)
        F.cross_entropy(scores(8, 1), classes(8) * 0)
    assert len(findings) == 2


def test_the_innermost_guard_speaks() -> None:
    with guard() as outer, guard(on="log") as inner:
        F.poisson_nll_loss(*BROADCAST)
    assert (len(outer), len(inner)) == (0, 1)


class PassThroughMode(TorchFunctionMode):
    """A mode of somebody else's."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_a_mode_in_between_is_not_the_caller() -> None:
    scores, labels = BROADCAST
    with guard(on="log", arithmetic=True) as findings, PassThroughMode():
        nn.PoissonNLLLoss()(scores, labels)
        scores - labels
    sources = [finding.source for finding in findings]
    assert sources == ["nn.PoissonNLLLoss()(scores, labels)", "scores - labels"]


# Leaving the context -----------------------------------------------------------------------------


def held(context):
    """A fixture, say, that holds `context` until it is closed."""
    with context:
        yield


@pytest.mark.parametrize("later", [PassThroughMode, trace, guard])
@pytest.mark.parametrize("end", ["close", "exhaust", "raise"])
def test_a_guard_that_ends_under_a_later_mode(end, later) -> None:
    suspended = held(guard())
    next(suspended)
    with later():
        (_, inner) = active_modes()
        if end == "close":
            suspended.close()
        elif end == "exhaust":
            assert next(suspended, "the end") == "the end"
        else:
            with pytest.raises(KeyError):
                suspended.throw(KeyError())
        assert active_modes() == [inner]
        if later is not guard:
            F.poisson_nll_loss(*BROADCAST)
    assert active_modes() == []
    F.poisson_nll_loss(*BROADCAST)


def test_guards_and_traces_end_in_any_order() -> None:
    for order in itertools.permutations(range(4)):
        contexts = [held(make()) for make in (guard, trace, guard, trace)]
        for context in contexts:
            next(context)
        left = dict(enumerate(active_modes()))
        for ended in order:
            contexts[ended].close()
            del left[ended]
            assert active_modes() == [*left.values()], order


def test_an_outer_guard_that_has_ended_and_the_inner_one_that_has_not() -> None:
    suspended = held(guard())
    next(suspended)
    with guard(on="log") as findings:
        suspended.close()
        F.poisson_nll_loss(*BROADCAST)
    assert len(findings) == 1


def test_a_guard_that_somebody_removed_removes_nobody() -> None:
    with PassThroughMode() as other:
        with guard():
            leave(active_modes()[-1])
        assert active_modes() == [other]


def test_a_guard_that_another_thread_ends() -> None:
    """It stays on the stack of the thread that entered it, and finds nothing there any more."""
    suspended = held(guard())
    with ThreadPoolExecutor(1) as pool:
        pool.submit(next, suspended).result()
        with PassThroughMode() as other:
            suspended.close()
            assert active_modes() == [other]
        pool.submit(F.poisson_nll_loss, *BROADCAST).result()


def test_a_guard_that_ends_while_it_handles_a_call() -> None:
    """Torch takes it from the stack meanwhile, as every mode that handles the call."""

    def distance(x, y):
        suspended.close()
        return (x - y).norm(dim=-1)

    def call() -> None:
        other.__enter__()
        next(suspended)
        F.triplet_margin_with_distance_loss(*scores(3, B, C), distance_function=distance)
        F.poisson_nll_loss(*BROADCAST)
        assert active_modes()[0] is other

    other, suspended = PassThroughMode(), held(guard())
    with ThreadPoolExecutor(1) as pool:  # a stack of its own
        pool.submit(call).result()


def test_one_guard_again_and_again_but_not_within_itself() -> None:
    once = guard(on="log")
    seen = []
    for _ in range(2):
        with once as findings:
            F.poisson_nll_loss(*BROADCAST)
            with pytest.raises(RuntimeError, match=r"^guard: .* active already"), once:
                pass
            F.poisson_nll_loss(*BROADCAST)
        seen.append(findings.calls)
    assert seen == [2, 2]


def test_guards_of_tasks_that_take_turns() -> None:
    async def work(entered, may_end) -> list[safeloss.Finding]:
        with guard(on="log") as findings:
            entered.set()
            await may_end.wait()
            F.poisson_nll_loss(*BROADCAST)
        return findings

    async def both():
        entered, first, second = asyncio.Event(), asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(work(entered, first))
        await entered.wait()
        entered.clear()
        other = asyncio.create_task(work(entered, second))
        await entered.wait()
        first.set()
        one_found = await one
        (mode,) = active_modes()
        assert mode.findings is not one_found
        second.set()
        return await other

    (finding,) = asyncio.run(both())
    assert finding.count == 2  # the first task called while the guard of the second was active too


def test_an_asynchronous_generator_that_holds_a_guard() -> None:
    async def held_async():
        with guard():
            yield

    async def run() -> None:
        suspended = held_async()
        await anext(suspended)
        with PassThroughMode() as other:
            await suspended.aclose()
            assert active_modes() == [other]
            F.poisson_nll_loss(*BROADCAST)

    asyncio.run(run())


def is_found() -> bool:
    try:
        with guard():
            F.poisson_nll_loss(*BROADCAST)
    except safeloss.LayoutError:
        return True
    return False


def test_allowances_end_in_any_order() -> None:
    for order in itertools.permutations(range(3)):
        contexts = [held(allow()) for _ in order]
        for context in contexts:
            next(context)
        for ended in order:
            assert not is_found()
            contexts[ended].close()
        assert is_found()


def test_an_allowance_that_ends_in_another_context() -> None:
    suspended = held(allow())
    contextvars.copy_context().run(next, suspended)
    with allow():
        suspended.close()
        assert not is_found()
    assert is_found()


def test_an_allowance_within_itself() -> None:
    twice = allow()
    with twice:
        with twice:
            assert not is_found()
        assert not is_found()
    assert is_found()


# As a decorator ----------------------------------------------------------------------------------


async def coroutine(x, y):
    return F.poisson_nll_loss(x, y)


async def async_generator(x, y):
    yield F.poisson_nll_loss(x, y)


def generator(x, y):
    yield F.poisson_nll_loss(x, y)


class Later:
    async def __call__(self, x, y):
        return F.poisson_nll_loss(x, y)

    def method(self, x, y):
        yield F.poisson_nll_loss(x, y)


class Now:
    def __call__(self, x, y):
        return F.poisson_nll_loss(x, y)

    method = __call__


RUN_LATER = [
    # what is decorated,                                  what it is called
    (coroutine,                                           "`coroutine` is a coroutine function"),
    (async_generator,                                     "is an async generator function"),
    (generator,                                           "`generator` is a generator function"),
    (types.coroutine(generator),                          "is a generator function"),
    (functools.partial(functools.partial(coroutine), 1),  "`coroutine` is a coroutine function"),
    (staticmethod(async_generator),                       "is an async generator function"),
    (Later(),                                             "`Later.__call__` is a coroutine"),
    (functools.partial(Later()),                          "`Later.__call__` is a coroutine"),
    (Later().method,                                      "`Later.method` is a generator function"),
    (functools.partial(Later().method),                   "`Later.method` is a generator function"),
    (Later,                                               "`Later` is a class"),
    (nn.PoissonNLLLoss,                                   "`PoissonNLLLoss` is a class"),
]  # fmt: skip


@pytest.mark.parametrize("manager", [guard, allow, trace])
@pytest.mark.parametrize(("decorated", "kind"), RUN_LATER)
def test_what_would_run_outside_is_not_decorated(manager, decorated, kind) -> None:
    with pytest.raises(TypeError, match=f"^{manager.__name__}: ") as refusal:
        manager()(decorated)
    assert kind in str(refusal.value)
    assert f"write `with safeloss.{manager.__name__}():` inside" in str(refusal.value)


RUN_NOW = [
    F.poisson_nll_loss,
    lambda x, y: F.poisson_nll_loss(x, y),
    functools.partial(F.poisson_nll_loss, reduction="sum"),
    functools.lru_cache(F.poisson_nll_loss),
    staticmethod(F.poisson_nll_loss),
    Now(),
    Now().method,
    nn.PoissonNLLLoss(),
    lambda x, y: asyncio.run(coroutine(x, y)),
    functools.wraps(coroutine)(lambda x, y: asyncio.run(coroutine(x, y))),
    functools.wraps(generator)(lambda x, y: list(generator(x, y))),
]


@pytest.mark.parametrize("decorated", RUN_NOW)
def test_what_runs_inside_is_decorated(decorated) -> None:
    with pytest.raises(safeloss.LayoutError):
        guard()(decorated)(*BROADCAST)
    assert active_modes() == []
    with guard():
        allow()(decorated)(*BROADCAST)
    assert is_found()


# Threads, transforms and compiled code -----------------------------------------------------------


def test_it_sees_the_thread_that_entered() -> None:
    def other() -> None:
        F.poisson_nll_loss(*BROADCAST)
        inside.append(found())

    inside: list[list[safeloss.Finding]] = []
    with guard() as findings:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert findings.calls == 0
    assert len(inside[0]) == 1


def poisson(x, y):
    return F.poisson_nll_loss(x, y)


def under(context, x, y):
    with context:
        return poisson(x, y)


SEEN = {
    "vmap": lambda x, y: torch.func.vmap(poisson)(x[None], y[None]),
    "grad": lambda x, y: torch.func.grad(poisson)(x, y),
    "autocast": lambda x, y: under(torch.autocast("cpu"), x, y),
    "meta": lambda x, y: poisson(x.to("meta"), y.to("meta")),
    "device": lambda x, y: under(torch.device("cpu"), x, y),
    "parameter": lambda x, y: poisson(nn.Parameter(x), y),
    "keywords": lambda x, y: F.poisson_nll_loss(target=y, input=x),
    "traced": lambda x, y: torch.jit.trace(poisson, (x, y), check_trace=False),
    "checkpoint": lambda x, y: torch.utils.checkpoint.checkpoint(
        poisson, x.requires_grad_(), y, use_reentrant=False
    ).backward(),
}


@pytest.mark.parametrize("where", SEEN)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:None of the inputs")
def test_seen(where) -> None:
    with guard(on="log") as findings:
        SEEN[where](*(value.clone() for value in BROADCAST))
    assert [finding.loss for finding in findings] == ["poisson_nll_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("fullgraph", [False, True])
def test_compiled_code_runs_as_ever_and_is_not_seen(fullgraph) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(poisson, backend=counter, fullgraph=fullgraph)
    value, seen = compiled(*BROADCAST), []
    for _ in range(5):
        with guard(on="log") as findings:
            assert torch.equal(compiled(*BROADCAST), value)
        seen.append(findings.calls)
    assert counter.frame_count <= 2, "once more for all guards"
    if torch.__version__.startswith("2.13"):
        assert seen == [0] * 5, "the page says so of this release"
    with (
        pytest.raises(safeloss.LayoutError),
        guard(),
        torch.compiler.set_stance("force_eager"),
    ):
        compiled(*BROADCAST)


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page says what this release does"
)
def test_a_guard_entered_in_compiled_code_sees_nothing() -> None:
    def guarded(x, y):
        with guard():
            return F.poisson_nll_loss(x, y)

    torch._dynamo.reset()
    compiled = torch.compile(guarded, backend="aot_eager")
    assert torch.equal(compiled(*BROADCAST), poisson(*BROADCAST))


# Operators ---------------------------------------------------------------------------------------

x, y = BROADCAST
OPERATORS = [
    # found,  operator
    (True,  lambda: x - y),
    (True,  lambda: y.__rsub__(x)),
    (True,  lambda: torch.sub(x, other=y)),
    (True,  lambda: F.logsigmoid(x) * y),
    (True,  lambda: (x > 0) == y),
    (True,  lambda: torch.where(y > 0, x, 0.0)),
    (True,  lambda: ((x - y.view(-1)) ** 2).mean()),
    (True,  lambda: scores(8, 8, 1) - chances(8, 8)),
    (False, lambda: x - y[:, None]),
    (False, lambda: x - 1.0),
    (False, lambda: x - chances(())),
    (False, lambda: x - chances(1)),
    (False, lambda: x * scores(8, 3)),
    (False, lambda: scores(8, 3) + scores(3)),
    (False, lambda: x + scores(5)),                         # nothing that could be its target
    (False, lambda: x[None] - y),                           # of equal rank
    (False, lambda: y[:, None] - y[None, :]),
    (False, lambda: y.unsqueeze(1) == y),
    (False, lambda: y.view(-1, 1) - y),
    (False, lambda: x.square().sum(1, keepdim=True) + y),   # of squared distances
    (False, lambda: scores(2, 1, 1, 8) + scores(8, 8)),     # masks
]  # fmt: skip


def squared_distances(x, y):
    norms = x.square().sum(1, keepdim=True)
    return norms + y.square().sum(1) - 2 * x @ y.T


def hand_written(scores, labels):
    labels = labels.view(-1, 1)
    return (scores.squeeze(-1) - labels).square().mean()


OPERATORS += [
    (False, lambda: squared_distances(scores(8, 3), scores(8, 3))),
    (True, lambda: hand_written(x, y)),
]


@pytest.mark.parametrize(("found", "operator"), OPERATORS)
def test_operators(found, operator) -> None:
    operator()
    with guard(on="log") as unasked:
        operator()
    with guard(on="log", arithmetic=True) as findings:
        operator()
    assert unasked == []
    assert bool(findings) is found


def test_an_operator_is_explained_by_the_shapes() -> None:
    with pytest.raises(safeloss.LayoutError, match=r"\] mul: ") as refusal, guard(arithmetic=True):
        y * x
    assert "broadcasts to [8, 8]" in refusal.value.native
    for fix in refusal.value.fixes:
        edited = eval(fix, {"safeloss": safeloss, "input": y, "other": x})
        assert (edited * x).shape == x.shape


def test_torchs_own_arithmetic_is_its_own() -> None:
    normal = torch.distributions.Normal(x, torch.ones(8, 1))
    with guard(arithmetic=True) as findings:
        normal.log_prob(y)
    assert findings == []


@pytest.mark.parametrize("package", ["torchvision", "torchmetrics", "torch_geometric"])
def test_libraries_named_after_torch_are_users(package) -> None:
    site = Path(torch.__file__).parent.parent
    assert is_users(str(site / package / "losses.py"))
    assert not is_users(torch.nn.functional.__file__)


def test_files_are_told_apart_by_their_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of folders above them decide nothing: where Python is, nor where the user works."""
    python = os.path.join("/opt", "site-packages-not", "lib", "python3.99")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: python)
    is_users = runpy.run_path(_frames.__file__)["is_users"]
    assert not is_users(os.path.join(python, "threading.py"))
    assert is_users(os.path.join(python, "site-packages", "lightning", "trainer.py"))
    assert is_users(os.path.join(python, "dist-packages", "lightning", "trainer.py"))
    assert is_users(os.path.join(f"{python}-projects", "train.py"))
    for folder in ("torch", "safeloss", "beartype", "with space", "site-packages-not"):
        assert is_users(os.path.join("/home", folder, "safeloss", "tests", "train.py"))


# The command line --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # The command sets it, and this restores it. To torch 2.6 "0" would be true as well.
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "")


SCRIPT = """
import sys
import torch
import labels
print("arguments", sys.argv[1:], __name__)
@torch.compile
def step(scores, labels):
    return torch.nn.PoissonNLLLoss()(scores, labels)
for _ in range(2):
    step(torch.zeros(8, 1), labels.ONES)
"""


@pytest.mark.slow
def test_a_script_runs_as_it_is_and_its_lines_are_listed(tmp_path: Path) -> None:
    (tmp_path / "labels.py").write_text("import torch\nONES = torch.ones(8)\n")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    run = [sys.executable, "-m", "safeloss", "guard", str(script), "7", "--help"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "arguments ['7', '--help'] __main__" in done.stdout
    assert "return torch.nn.PoissonNLLLoss()(scores, labels)   (2 times)" in done.stdout
    assert "labels.unsqueeze(1)" in done.stdout or sys.version_info < (3, 11)
    assert done.stdout.endswith("Native loss calls seen: 2. Findings: 1.\n")


LEAVES = [
    # the script ends by,    what it raises
    ("sys.exit(3)",          SystemExit),
    ("raise KeyError('x')",  KeyError),
]  # fmt: skip


@pytest.mark.parametrize(("ends", "expected"), LEAVES)
def test_a_script_leaves_as_it_does_and_findings_come_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: str, expected: type[BaseException]
) -> None:
    script = tmp_path / "leaves.py"
    script.write_text(f"import sys, torch\ntorch.zeros(8, 1) - torch.ones(8)\n{ends}\n")
    with pytest.raises(expected):
        main(["guard", "--arithmetic", str(script)])
    assert "Findings: 1." in capsys.readouterr().out


CRASHES = [
    # what crashes the script,                                        what is said of it
    ("nn.BCELoss()(torch.rand(8, 3)[:, :1], torch.ones(8))",
     ("BCELoss: PyTorch does not take `target`", "Fix: target.unsqueeze(1)",
      "Fix: SafeBCELoss()(input, target)", "[8, 3] -> [8, 1]  indexing")),
    ("F.cross_entropy(torch.randn(8, 3), torch.arange(8))",
     ("cross_entropy: `target` must be class indices", "First at [3]: 3.")),
    ("nn.CrossEntropyLoss()(torch.randn(8, 3), torch.ones(8))",
     ("CrossEntropyLoss: `target` has the shape of class indices", ": target.long()")),
    ("nn.CrossEntropyLoss()(torch.randn(8, 5, 3), torch.ones(8, 5).long())",
     ("CrossEntropyLoss: ", "class_dim=-1")),
    ("nn.Linear(5, 2)(torch.randn(8, 3, 2).flatten(1))",
     ("linear: PyTorch does not take these tensors together.", "float32 [8, 6]",
      "[8, 3, 2] -> [8, 6]  flatten()")),
    ("torch.zeros(8) - torch.ones(7)", ("sub: ", "other   float32 [7]", "float32 [8]  zeros()")),
    ("raise KeyError('x')", None),
    ("torch.zeros(8).missing", None),
    ("safeloss.SafeMSELoss()(torch.zeros(8, 1), torch.zeros(7))", None),  # explains itself
    ("try:\n    torch.zeros(8) - torch.ones(7)\nexcept RuntimeError:\n    int('x')", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), CRASHES)
def test_a_crash_is_explained_where_it_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: tuple[str, ...] | None
) -> None:
    script = tmp_path / "crash.py"
    imports = "import torch, safeloss, torch.nn.functional as F\nfrom torch import nn\n"
    script.write_text(f"{imports}{line}\n")
    with pytest.raises(Exception) as crash:  # noqa: PT011  # of any type
        quiet(main, ["guard", str(script)])
    notes = "".join(getattr(crash.value, "__notes__", [])) + capsys.readouterr().err
    if said is None:
        assert "safeloss says" not in notes
    else:
        assert notes.count("What safeloss says of this call:") == 1
        for words in said:
            assert words in notes


def test_options_of_the_script_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "hand.py"
    script.write_text("import torch\nloss = torch.zeros(8, 1) - torch.ones(8)\n")
    before = list(sys.path), list(sys.argv)
    assert main(["guard", str(script)]) == 0
    assert main(["guard", "--arithmetic", str(script)]) == 1
    assert main(["guard", "--arithmetic", "--allow", "*/hand.py", str(script)]) == 0
    assert (sys.path, sys.argv) == before
    assert "hand.py:2: loss = torch.zeros(8, 1) - torch.ones(8)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["guard", str(tmp_path / "missing.py")])
    assert "there is no file" in capsys.readouterr().err
