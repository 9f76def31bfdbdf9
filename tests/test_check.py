"""`check`: what it says of programs that are broken, and that it fails on none that learns."""

import functools
import io
import json
import pickle
import random
import re
import subprocess
import sys
import threading
import warnings
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from check_gallery import Builder, learns
from check_gallery.broken import BROKEN
from check_gallery.healthy import HEALTHY
from check_gallery.others import OTHERS
from torch import Tensor, nn

import safeloss
from safeloss._check.checks import BEFORE, CHECKS
from safeloss._messages import catalogue

DOCS = Path(__file__).parent.parent / "docs"
GALLERY: dict[str, Builder] = {**BROKEN, **HEALTHY, **OTHERS}
NEEDS_SKLEARN = {"iris", "breast_cancer", "wine_with_nll", "digits_with_batch_norm"}


def built(name: str) -> Any:
    if name in NEEDS_SKLEARN:
        pytest.importorskip("sklearn")
    torch.manual_seed(0)
    return GALLERY[name]()


@functools.cache
def reported(name: str) -> safeloss.Check:
    training = built(name)
    return safeloss.check(
        training.model,
        training.batches[0],
        training.loss,
        step=training.step,
        optimizer=training.optimizer,
        **training.options,
    )


def codes(report: safeloss.Check, status: str) -> list[str]:
    return [line.code for line in report.lines if line.status == status]


# The gallery -------------------------------------------------------------------------------------


def test_the_gallery_is_as_large_as_it_says() -> None:
    assert len(BROKEN) == len(HEALTHY) == 30
    assert len(OTHERS) >= 10
    assert len(GALLERY) == len(BROKEN) + len(HEALTHY) + len(OTHERS)


@pytest.mark.nightly  # it is about the gallery, not about the library
@pytest.mark.filterwarnings("ignore")  # PyTorch warns of some of the faults
@pytest.mark.parametrize("name", GALLERY)
def test_a_program_is_what_it_is_called(name: str) -> None:
    assert learns(built(name)) is (name not in BROKEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEALTHY, *OTHERS])
def test_no_healthy_program_fails(name: str) -> None:
    report = reported(name)
    assert report.ok, report
    report.to_dict()


def gallery_table() -> str:
    """What stands in the docs of each broken program."""
    rows = ["| program | fails | warns |", "|---|---|---|"]
    for name in BROKEN:
        said = [", ".join(dict.fromkeys(codes(reported(name), s))) or "-" for s in ("fail", "warn")]
        rows.append(f"| {name.replace('_', ' ')} | {said[0]} | {said[1]} |")
    return "\n".join(rows)


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page says what was measured there"
)
def test_the_page_states_what_the_gallery_gives() -> None:
    page = (DOCS / "check.md").read_text()
    failing = [name for name in BROKEN if not reported(name).ok]
    warned = [n for n in BROKEN if n not in failing and codes(reported(n), "warn")]
    silent = [n for n in BROKEN if n not in (*failing, *warned)]
    fine = [*HEALTHY, *OTHERS]
    warns = {kind: [n for n in GALLERY if n in kind_of and codes(reported(n), "warn")]
             for kind, kind_of in (("thirty", HEALTHY), ("others", OTHERS))}  # fmt: skip
    stated = re.sub(r"\s+", " ", page)
    assert f"a line fails for {len(failing)}, others warn for {len(warned)}" in stated
    assert f"and nothing is said of {len(silent)}" in stated
    assert all(reported(name).ok for name in fine)
    assert f"no line fails, and lines warn for {len(warns['thirty'])}" in stated
    assert f"for {len(warns['others'])} of the {len(OTHERS)} others" in stated
    assert gallery_table() in page


# Nothing of the caller's changes -----------------------------------------------------------------


def state_of(*values: Any) -> list[Any]:
    """All that a check could change, as plain data."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, nn.Module):
            for module in value.modules():
                hooks = [len(module._forward_hooks), len(module._backward_hooks)]
                found += [module.training, sorted(vars(module)), hooks]
            for tensor in [*value.parameters(), *value.buffers()]:
                grad = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist())
                found += [id(tensor), tensor.tolist(), tensor.requires_grad, grad]
        elif isinstance(value, torch.optim.Optimizer):
            found.append(repr(value.state_dict()))
            found += [id(p) for group in value.param_groups for p in group["params"]]
        else:
            found.append(repr(value))
    drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return [*found, *drawn, torch.is_grad_enabled(), torch.is_inference_mode_enabled()]


@pytest.mark.slow
@pytest.mark.parametrize("name", GALLERY)
def test_nothing_of_the_callers_changes(name: str) -> None:
    training = built(name)
    for parameter in training.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    given = [training.model, training.optimizer, training.batches[0]]
    if isinstance(training.loss, nn.Module):
        given.append(training.loss)
    before = state_of(*given)
    safeloss.check(
        training.model,
        training.batches[0],
        training.loss,
        step=training.step,
        optimizer=training.optimizer,
        **training.options,
    )
    assert state_of(*given) == before


class Locked(nn.Module):
    """A model that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def batch_of(n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 6), torch.arange(n) % 3


def head(outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))


def penalised(model: nn.Module) -> Any:
    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        weights = sum(p.square().sum() for p in model.parameters())
        return F.cross_entropy(scores, labels) + 0.01 * weights

    return {"loss": loss}


def of_its_own(model: nn.Module) -> Any:
    return {"step": lambda _, batch: F.cross_entropy(model(batch[0]), batch[1])}


WAYS = {
    "a model that cannot be copied": (Locked, lambda model: {"loss": nn.CrossEntropyLoss()}),
    "a step that trains a model of its own": (head, of_its_own),
    "a loss that closes over the model": (head, penalised),
    "a model in evaluation mode": (lambda: head().eval(), lambda m: {"loss": F.cross_entropy}),
    "a step that raises": (Locked, lambda model: {"loss": nn.MSELoss()}),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_original_is_put_back(way: str) -> None:
    make, others = WAYS[way]
    model, batch = make(), batch_of()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.step()
    before = state_of(model, optimizer, batch)
    report = safeloss.check(model, batch, optimizer=optimizer, **others(model))
    assert state_of(model, optimizer, batch) == before
    assert report.ok is (way != "a step that raises"), report


def test_what_was_switched_off_stays_so() -> None:
    with torch.no_grad():
        assert safeloss.check(head(), batch_of(), nn.CrossEntropyLoss()).ok
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert safeloss.check(head(), batch_of(), nn.CrossEntropyLoss()).ok


# How the parts go together -----------------------------------------------------------------------


@dataclass
class Rows:
    x: Tensor
    y: Tensor


class Asks(nn.Module):
    """A model that computes its loss itself, as those of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.head = head()

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(inputs)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return namedtuple("Output", "loss logits")(loss, logits)


X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
CE = nn.CrossEntropyLoss()
FORMS: dict[str, tuple[nn.Module, Any, Any, str]] = {
    "a tuple": (head(), (X, Y), CE, "loss(model(batch[0]), batch[1])"),
    "a list": (head(), [X, Y], CE, "loss(model(batch[0]), batch[1])"),
    "two inputs": (
        nn.Bilinear(6, 6, 3), (X, X, Y), CE, "loss(model(batch[0], batch[1]), batch[2])",
    ),
    "inputs in a tuple": (
        nn.Bilinear(6, 6, 3), ((X, X), Y), CE, "loss(model(*batch[0]), batch[1])",
    ),
    "weights beside": (
        head(), (X, Y, torch.rand(12)),
        lambda out, y, w: (F.cross_entropy(out, y, reduction="none") * w).mean(),
        "loss(model(batch[0]), batch[1], batch[2])",
    ),
    "a dictionary": (Asks(), {"inputs": X, "labels": Y}, None, "model(**batch)"),
    "... with a loss": (
        Asks(), {"inputs": X, "labels": Y}, CE, "loss(model(inputs=batch.inputs), batch.labels)",
    ),
    "other names": (head(), {"pixels": X, "y": Y}, CE, "loss(model(batch.pixels), batch.y)"),
    "names of samples": (
        head(), {"x": X, "path": ["a"] * 12, "y": Y}, CE, "loss(model(batch.x), batch.y)",
    ),
    "a dataclass": (head(), Rows(X, Y), CE, "loss(model(batch.x), batch.y)"),
    "a named tuple": (
        head(), namedtuple("Row", "x y")(X, Y), CE, "loss(model(batch.x), batch.y)",
    ),
    "no target": (nn.Linear(6, 6), X, F.mse_loss, "loss(model(batch), batch)"),
    "a dictionary of losses": (
        head(), (X, Y), lambda out, y: {"loss": F.cross_entropy(out, y), "other": 1},
        "loss(model(batch[0]), batch[1])",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_parts_go_together(form: str) -> None:
    model, batch, loss, words = FORMS[form]
    report = safeloss.check(model, batch, loss)
    assert report.ok, report
    assert f"`{words}`" in report.lines[0].seen
    assert not [note for note in report.notes if note.startswith("Not checked")]
    assert {line.code for line in report.lines} > {"SL401", "SL441", "SL451", "SL461"}


def test_what_gives_no_loss_fails_and_is_told_of_step() -> None:
    for loss in (lambda out, y: None, lambda out, y: {"ce": out.sum()}, lambda out, y: 1.0):
        report = safeloss.check(head(), batch_of(), loss)
        assert codes(report, "fail") == ["SL401"]
        assert "`step=lambda model, batch: ...`" in report.lines[0].advice


def test_a_model_is_asked_for() -> None:
    with pytest.raises(TypeError, match=r"must be an nn\.Module"):
        safeloss.check(lambda x: x, batch_of(), CE)  # type: ignore[arg-type]


def test_a_refusal_of_a_safe_loss_is_a_line_of_its_own() -> None:
    report = safeloss.check(head(), (X, (Y > 0).float()), safeloss.SafeBCEWithLogitsLoss())
    assert codes(report, "fail") == ["SL401", "SL402"]
    assert "safeloss explain SL122" in report.lines[1].advice


def test_a_batch_of_one_is_asked_what_more_would_do() -> None:
    report = safeloss.check(head(1), (X[:1], Y[:1].float()), nn.MSELoss())
    (line,) = [line for line in report.lines if line.code == "SL402"]
    assert line.status == "warn"
    assert "[8, 1] and [8]" in line.seen
    assert any("A batch of 1 shows little" in note for note in report.notes)


def test_an_empty_batch_fails() -> None:
    assert "SL453" in codes(safeloss.check(head(), (X[:0], Y[:0]), CE), "fail")


def test_who_changed_a_shape_is_told() -> None:
    class Squeezed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).squeeze(-1)

    report = safeloss.check(Squeezed(6, 1), (X, Y.float()[:, None]), nn.MSELoss())
    (line,) = [line for line in report.lines if line.code == "SL402"]
    assert line.status == "fail"
    assert "`input`: [12, 1] -> [12] by squeeze() at " in line.seen
    assert "test_check.py:" in line.seen


def test_labels_that_are_masked_out_are_no_mistake_and_others_are() -> None:
    labels = torch.where(torch.rand(12, 3) > 0.5, -1.0, (torch.rand(12, 3) > 0.5).float())
    labels[0] = torch.tensor([0.0, 1.0, -1.0])

    def masked(out: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(out, y, reduction="none")[y >= 0].mean()

    assert safeloss.check(head(), (X, labels), masked).ok
    report = safeloss.check(head(), (X, labels), nn.BCEWithLogitsLoss())
    assert codes(report, "fail") == ["SL421"]


def test_a_tensor_outside_the_model_may_be_what_is_trained() -> None:
    image, model = nn.Parameter(torch.randn(1, 6)), head().requires_grad_(False)

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.mse_loss(model(image), model(batch[0]))

    assert safeloss.check(model, (X[:1],), step=step, optimizer=torch.optim.Adam([image])).ok
    assert not safeloss.check(model, (X, Y), CE).ok


def test_the_batch_may_be_changed_before_the_model_where_that_changes_nothing() -> None:
    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        batch[1].masked_fill_(batch[1] == 2, -100)
        return F.cross_entropy(model(batch[0]), batch[1])

    report = safeloss.check(head(), (X, Y), step=step)
    assert report.ok
    assert "SL403" in codes(report, "warn")


def test_optimizers_that_cannot_be_copied_are_left_alone() -> None:
    model = head()
    report = safeloss.check(model, (X, Y), CE, optimizer=torch.optim.LBFGS(model.parameters()))
    assert report.ok
    assert any("LBFGS" in note for note in report.notes)


def test_autocast_inside_of_the_step_sees_weights_that_change() -> None:
    """Its cache of weights lives until the outermost context ends, which is that of the check."""

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(model(batch[0]), batch[1])

    report = safeloss.check(head(), (X, Y), step=step)
    assert "SL461" in codes(report, "pass")


def test_no_time_is_no_verdict() -> None:
    report = safeloss.check(head(), (X, Y), CE, seconds=0)
    assert len(report.lines) == 4
    assert any("the time is spent" in note for note in report.notes)


@pytest.mark.slow
def test_a_compiled_model() -> None:
    torch._dynamo.reset()
    model = torch.compile(nn.Sequential(head(), nn.Softmax(1)), backend="eager")
    model(X)
    assert codes(safeloss.check(model, (X, Y), CE), "fail") == ["SL411"]


# The report --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reports() -> list[safeloss.Check]:
    torch.manual_seed(0)
    return [
        safeloss.check(head(1), (X, Y.float()), nn.MSELoss()),
        safeloss.check(head(), (X, Y), CE),
        safeloss.check(head(), (X[:, :2], Y), CE),
    ]


def test_the_report_says_all_that_it_knows(reports: list[safeloss.Check]) -> None:
    for report in reports:
        told = " ".join(repr(report).split())
        for line in report.lines:
            assert line.code in told
            assert line.title in told
            assert " ".join(line.seen.split()) in told
            if line.status != "pass":
                assert " ".join(line.advice.split()) in told
        assert report.ok is (not codes(report, "fail"))
        assert all(len(row) <= 130 for row in repr(report).splitlines())


def test_the_lines_are_in_order(reports: list[safeloss.Check]) -> None:
    for report in reports:
        seen = [line.code for line in report.lines]
        assert seen == sorted(seen)
        assert set(seen) <= set(catalogue.codes())
    assert set(BEFORE) <= set(CHECKS)


def test_a_report_is_json(reports: list[safeloss.Check]) -> None:
    for report in reports:
        found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert found["ok"] is report.ok
        assert [line["code"] for line in found["lines"]] == [line.code for line in report.lines]
        assert {*found["lines"][0]} == {"code", "status", "title", "seen", "expected", "advice"}


def test_a_report_is_a_page(reports: list[safeloss.Check], tmp_path: Path) -> None:
    for report in reports:
        report.save(tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert page.startswith("<!DOCTYPE html>")
        assert all(line.code in page for line in report.lines)
        assert page.count("<svg") == (5 if report.audit is not None else 0)
        assert "http" not in page.replace("http-equiv", "")
    with pytest.raises(ValueError, match=r"does not end in \.html"):
        reports[0].save(tmp_path / "report.png")


def test_rich_shows_it_in_colours(reports: list[safeloss.Check]) -> None:
    console = pytest.importorskip("rich.console")
    shown = console.Console(width=200, record=True, file=io.StringIO())
    shown.print(reports[0])
    assert "SL441" in shown.export_text()
    assert "color" in shown.export_html()


def test_failing_raises_and_warning_warns(reports: list[safeloss.Check]) -> None:
    with pytest.raises(safeloss.SafeLossError, match="SL441") as raised:
        reports[0].raise_if_failed()
    assert raised.value.code == "SL402"
    assert pickle.loads(pickle.dumps(raised.value)).code == "SL402"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reports[1].raise_if_failed()
    warned = safeloss.check(head(), (X, torch.zeros(12).long()), CE)
    with pytest.warns(safeloss.SuspiciousInputWarning, match=r"\[SL422\]"):
        warned.raise_if_failed()


# The command -------------------------------------------------------------------------------------

BUILDS = {
    "ok": ("return nn.Linear(4, 1), (torch.randn(8, 4), torch.randn(8, 1)), nn.MSELoss()", 0),
    "bug": ("return nn.Linear(4, 1), (torch.randn(8, 4), torch.randn(8)), nn.MSELoss()", 1),
    "named": (
        "return dict(model=nn.Linear(4, 1), batch=torch.randn(8, 4), "
        "step=lambda m, b: m(b).square().mean())",
        0,
    ),
    "nothing": ("return None", 2),
    "raises": ("raise RuntimeError('of the user')", 2),
}


def command(tmp_path: Path, build: str, *options: str) -> tuple[int, str]:
    from safeloss.__main__ import main

    text = f"import torch\nfrom torch import nn\n\ndef build():\n    {BUILDS[build][0]}\n"
    (tmp_path / f"train_{build}.py").write_text(text)
    return main(["check", f"{tmp_path / f'train_{build}.py'}:build", *options])


@pytest.mark.parametrize("build", BUILDS)
def test_the_command_has_an_exit_code(
    build: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, build) == BUILDS[build][1]
    out, err = capsys.readouterr()
    assert ("safeloss.check of" in out) is (BUILDS[build][1] < 2)
    assert bool(err) is (BUILDS[build][1] == 2)


def test_the_command_writes_json_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "bug", "--json", "--output", str(tmp_path / "page.html")) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert (tmp_path / "page.html").exists()


# The house ---------------------------------------------------------------------------------------


def importers() -> Iterator[str]:
    package = Path(safeloss.__file__).parent
    for file in package.rglob("*.py"):
        if "_check" not in file.parts and re.search(r"safeloss\._check\b", file.read_text()):
            yield file.name


def test_nothing_else_imports_it() -> None:
    assert [*importers()] == ["__main__.py"]  # inside of the command
    lines = ["import safeloss, sys", "safeloss.audit", "print('safeloss._check' in sys.modules)"]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True, text=True, check=True, cwd=Path(safeloss.__file__).parents[1],
    )  # fmt: skip
    assert run.stdout == "False\n"
