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
        name: [float(cell) for cell in line.split()[-len(_demo.QUICK_BATCH_SIZES) :]]
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
    assert "0 warnings, no error" in out
    assert (
        "LayoutError: [SL121] SafeBCEWithLogitsLoss: `input` and `target` do not fit together."
        in out
    )
    assert "bit for bit, at 3 of 3 batch sizes" in out.splitlines()[-1]


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(SystemExit, match=r'pip install "safeloss\[demo\]"$') as refused:
        main(["demo"])
    assert refused.value.code not in (None, 0)


@pytest.mark.slow
def test_the_extra_is_not_imported_before_it_is_needed() -> None:
    packages = "{'rich', 'matplotlib', 'sklearn'}"
    lines = (
        f"import sys, safeloss._demo, safeloss.__main__; assert not {packages} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", lines], check=True)


REFUSED = [
    ("demo --epochs 0", "'0' is no whole number of at least 1"),
    ("demo --output no/such/folder/demo.png", "is no file in a folder that exists"),
    ("demonstrate", "invalid choice"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_a_command_line_is_refused_before_any_work(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(line.split())
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("line", ["", "--help", "demo --help"])
def test_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 0
    assert "usage: safeloss" in capsys.readouterr().out
