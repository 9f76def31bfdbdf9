"""A progress bar is seen where work takes long and somebody looks, and goes away."""

import io

import pytest
import torch

import safeloss
from safeloss import _progress
from safeloss._progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_from_two_seconds_on() -> None:
    stream, clock = Terminal(), iter([0.0, 1.9, 2.0, 2.05, 3.0])
    with Progress("audit", 4, stream, lambda: next(clock)) as progress:
        progress.step()
        assert stream.getvalue() == ""
        progress.step()
        assert "audit [" in stream.getvalue()
        assert " 50%, 2 s" in stream.getvalue()
        shown = stream.getvalue()
        progress.step()
        assert stream.getvalue() == shown, "not oftener than somebody can read"
        progress.expect(4)
        progress.step()
        assert " 50%, 3 s" in stream.getvalue()
    assert stream.getvalue().endswith("\r")
    line = stream.getvalue().split("\r")[-2]
    assert not line.strip(), "the line is empty again"


def test_nothing_is_written_to_a_file_or_a_pipe() -> None:
    stream, clock = io.StringIO(), iter([0.0])
    with Progress("audit", 1, stream, lambda: next(clock)) as progress:
        progress.step()
    assert stream.getvalue() == ""


@pytest.mark.parametrize("work", ["audit", "hazards"])
def test_audits_and_hazards_have_one(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(_progress, "PATIENCE", 0.0)
    monkeypatch.setattr("sys.stderr", stream)
    if work == "audit":
        safeloss.audit(torch.nn.functional.mse_loss, torch.randn(8, 1), torch.randn(8))
    else:
        from safeloss import _hazards

        _hazards.rows(["SafeL1Loss"])
    assert f"\r{work} [" in stream.getvalue()
    assert " 0%" not in stream.getvalue().split("\r")[-3]
