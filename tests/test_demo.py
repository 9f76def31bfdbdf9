"""The demo shows what it says, and its exit code is the verdict."""

import subprocess
import sys
from pathlib import Path

import pytest

from safeloss import _demo
from safeloss.__main__ import main

GOOD = _demo.Run(losses=(0.5, 0.1), accuracy=0.96, gradient_norm=0.1)
STALLED = _demo.Run(losses=(0.7, 0.69), accuracy=0.63, gradient_norm=0.1)
NAN = _demo.Run(losses=(0.5, float("nan")), accuracy=0.96, gradient_norm=0.1)


def runs(swapped_in: _demo.Run, correct: _demo.Run = GOOD) -> _demo.Runs:
    both = {_demo.CORRECT: correct, _demo.SWAPPED_IN: swapped_in}
    good = dict.fromkeys(_demo.LOSSES, STALLED) | both | {_demo.SWAPPED_IN: correct}
    return {1: good, 8: dict.fromkeys(_demo.LOSSES, STALLED) | both}


@pytest.fixture
def extra() -> None:
    for package in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(package)


VERDICTS = [
    # swapped in,                     passed, said
    (GOOD, True, "at 2 of 2 batch sizes"),
    (GOOD._replace(losses=(0.6, 0.1)), True, "at 1 of 2 batch sizes"),
    (GOOD._replace(losses=(0.5, 0.11)), False, "worse than squeeze(-1), then BCE at B = 8."),
    (GOOD._replace(accuracy=0.95), False, "at B = 8."),
    (STALLED, False, "at B = 8."),
    (NAN, False, "at B = 8."),
]


@pytest.mark.parametrize(("swapped_in", "passed", "said"), VERDICTS)
def test_the_verdict(swapped_in: _demo.Run, passed: bool, said: str) -> None:
    verdict = _demo.judge(runs(swapped_in))
    assert verdict.passed is passed
    assert said in verdict.text
    assert "\n" not in verdict.text


def test_a_correct_run_that_diverged_proves_nothing() -> None:
    assert not _demo.judge(runs(NAN, correct=NAN)).passed


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize(("swapped_in", "code"), [(GOOD, 0), (STALLED, 1)])
def test_the_exit_code_is_the_verdict(
    swapped_in: _demo.Run,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_demo, "train_all", lambda *_: runs(swapped_in))
    assert main(["demo", "--output", str(tmp_path / "demo.png")]) == code
    assert capsys.readouterr().out.splitlines()[-1] == _demo.judge(runs(swapped_in)).text


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_a_quick_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    picture = tmp_path / "demo.png"
    assert main(["demo", "--quick", "--output", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")

    out = capsys.readouterr().out
    accuracy = out[out.index("held-out accuracy") : out.index("final loss")].splitlines()
    cells = {
        name: [float(cell.rstrip("!")) for cell in line.split()[-len(_demo.QUICK_BATCH_SIZES) :]]
        for line in accuracy
        for name in _demo.LOSSES
        if name in line
    }
    assert list(cells) == list(_demo.LOSSES)
    assert cells[_demo.SWAPPED_IN] == cells[_demo.CORRECT]
    assert min(cells[_demo.CORRECT]) > 0.9
    for name in _demo.BROKEN:
        assert cells[name][0] == cells[_demo.CORRECT][0]  # nothing to see at B = 1
        assert cells[name][0] > cells[name][1] > cells[name][2]
        assert f"broken: {name}" in out
    assert "correct: squeeze(-1), then BCE" in out
    assert "safeloss: SafeBCEWithLogitsLoss" in out
    assert "0 warnings, no error" in out
    assert (
        "LayoutError: [SL101] SafeBCEWithLogitsLoss: `input` and `target` do not fit together."
        in out
    )
    assert "bit for bit, at 3 of 3 batch sizes" in out.splitlines()[-1]


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err.endswith('pip install "safeloss[demo]"\n')


@pytest.mark.slow
def test_the_extra_is_not_imported_before_it_is_needed() -> None:
    packages = "{'rich', 'matplotlib', 'sklearn'}"
    lines = (
        f"import sys, safeloss._demo, safeloss.__main__; assert not {packages} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", lines], check=True)


COLOURED = [
    # environment,                           the colours, and the words for them
    ({"FORCE_COLOR": "1", "TERM": "xterm"}, True),
    ({"FORCE_COLOR": "1", "TERM": "xterm", "NO_COLOR": "1"}, False),
    ({}, False),  # a pipe
]


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
@pytest.mark.parametrize(("environment", "coloured"), COLOURED)
def test_colours_are_named_where_there_are_some(
    environment: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_demo, "train_all", lambda *_: runs(GOOD))
    assert main(["demo", "--output", str(tmp_path / "demo.png")]) == 0
    out = capsys.readouterr().out
    assert ("\x1b[31m" in out) is coloured
    assert ("is red" in out) is coloured
    assert "0.630!" in out
    assert "0.960!" not in out


@pytest.mark.slow
@pytest.mark.usefixtures("extra")
def test_the_picture_shows_accuracy_and_says_who_is_who(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    _demo.draw(runs(GOOD), tmp_path / "demo.png", 0.6)
    (figure,) = drawn
    _, accuracies, _ = figure.axes
    lines = {line.get_label(): list(line.get_ydata()) for line in accuracies.get_lines()}
    for name, label in _demo.LABELS.items():
        assert lines[label] == [run[name].accuracy for run in runs(GOOD).values()]
    assert (accuracies.get_ylabel(), accuracies.get_xlabel()) == (
        "held-out accuracy",
        "batch size B",
    )
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.partition(":")[0] for label in said] == [
        "correct",
        "broken",
        "broken",
        "safeloss",
    ]
    assert figure.get_suptitle() == _demo.CAPTION
