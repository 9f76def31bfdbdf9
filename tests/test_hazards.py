"""The hazards are what they are measured to be, and the oracle can fail."""

import dataclasses
import json
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

import safeloss
from safeloss import _hazards
from safeloss.__main__ import main
from safeloss._hazards.outcomes import Row, Side, outcomes

pytestmark = pytest.mark.slow
only_on_2_13 = pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="what this release does"
)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return _hazards.rows()


def test_every_loss_is_asked(rows: list[Row]) -> None:
    assert {row.loss for row in rows} == set(_hazards.LOSSES)
    assert {safe.__name__ for safe in safeloss.SAFE.values()} < set(_hazards.LOSSES)


def test_nothing_here_is_silently_wrong(rows: list[Row]) -> None:
    wrong = [row for row in rows if row.safe.outcome in ("silent", "repeats")]
    assert not wrong
    assert all(row.native.outcome == "raises" for row in rows if row.safe.outcome == "raises")


def test_what_is_right_is_a_number(rows: list[Row]) -> None:
    """The oracle gives PyTorch samples as they are declared, and PyTorch must take them."""
    for row in rows:
        assert row.right is None or torch.tensor(float(row.right)).isfinite(), row


# The bugs that people report, on PyTorch 2.13.
SQUARE = "[B, 1] with [B]"
MEASURED = [
    # outcome,  call,                               losses
    ("raises", SQUARE, "BCELoss BCEWithLogitsLoss SoftMarginLoss MarginRankingLoss"),
    ("warns", SQUARE, "MSELoss L1Loss SmoothL1Loss HuberLoss"),
    ("silent", SQUARE, "PoissonNLLLoss KLDivLoss HingeEmbeddingLoss GaussianNLLLoss"),
    ("silent", SQUARE, "MultiLabelSoftMarginLoss"),
    ("silent", "[B] with [B]", "CrossEntropyLoss"),
    ("silent", "[B, C] with [B], C == 1", "CrossEntropyLoss"),
    ("silent", "[B, T, C] with [B, T], T == C", "CrossEntropyLoss NLLLoss"),
    ("silent", "multi-hot", "CrossEntropyLoss"),
    ("silent", "every target is ignored", "CrossEntropyLoss NLLLoss"),
    ("silent", "[B, C] with [B], B == 0", "CrossEntropyLoss NLLLoss MultiMarginLoss"),
    ("silent", "[B, C] with [B, C], B == 0", "MSELoss BCEWithLogitsLoss"),
    ("silent", "labels in -1/1", "BCEWithLogitsLoss"),
    ("silent", "a missing number is NaN", "BCEWithLogitsLoss PoissonNLLLoss KLDivLoss"),
    ("silent", "a log-softmax over the first axis", "NLLLoss CTCLoss"),
    ("silent", "[B, C, H, W] with [C], C == W", "BCEWithLogitsLoss"),
    ("silent", "scores before the log-softmax", "NLLLoss KLDivLoss"),
    ("silent", "[B, 1] with [1, B]", "MarginRankingLoss"),
    ("repeats", "[B, D] with [1, D], [B]", "CosineEmbeddingLoss"),
    ("repeats", "[B, D] with [1, D]", "TripletMarginLoss"),
    ("repeats", "[B, C] with [B, 1]", "SoftMarginLoss"),
    ("unseen", "[B, C] with [B], B == C", "BCEWithLogitsLoss"),
]


@only_on_2_13
@pytest.mark.parametrize(("outcome", "call", "losses"), MEASURED)
def test_what_native_does(rows: list[Row], outcome: str, call: str, losses: str) -> None:
    for loss in losses.split():
        its = [row.native.outcome for row in rows if row.replaces == loss and row.call == call]
        assert outcome in its, (loss, its)


class Broadcasting(safeloss.SafeKLDivLoss):
    """A loss that only claims to be safe."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.KLDivLoss.forward(self, input, target)


class Flattening(safeloss.SafeKLDivLoss):
    """It compares nothing but the number of elements."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(input.flatten(), target.flatten())


class Halving(safeloss.SafeKLDivLoss):
    """The right number, and half of its gradient."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = super().forward(input, target)
        return (value + value.detach()) / 2


BROKEN = [
    # loss,       a call that it gets wrong, and one that it gets right
    (Broadcasting, "[B, 1] with [B]", "[B, C] with [B, C]"),
    (Broadcasting, "[B, C] with [B], B == C", "[1, B] with [B]"),
    (Broadcasting, "scores before the log-softmax", "[B] with [B]"),
    (Flattening, "[B, C] with [C, B]", "[B, 1] with [B]"),
    (Halving, "[B, C] with [B, C]", None),
]


@pytest.mark.parametrize(("broken", "wrong", "right"), BROKEN)
def test_the_oracle_finds_a_broken_loss(
    broken: Any, wrong: str, right: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.forward.signature = safeloss.SafeKLDivLoss.forward.signature
    monkeypatch.setattr(_hazards, "LOSSES", {"Broken": broken})
    found = {row.call: row.safe.outcome for row in _hazards.rows()}
    assert found[wrong] == "silent"
    assert right is None or found[right] in ("right", "normalises")
    assert _hazards.run([], "text") == 1


def test_json_has_everything(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hazards", "--json", "MSELoss", "SafeCrossEntropyLoss"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["torch"] == torch.__version__
    expected = [row for row in rows if row.replaces in ("MSELoss", "CrossEntropyLoss")]
    read = [
        Row(**{**row, "native": Side(**row["native"]), "safe": Side(**row["safe"])})
        for row in report["rows"]
    ]
    assert sorted(read, key=str) == sorted(expected, key=str)
    for side in ("native", "safe"):
        counted = Counter(row[side]["outcome"] for row in report["rows"])
        assert report["summary"][side] == counted
        assert counted.keys() <= report["outcomes"].keys()


def test_the_last_line_counts(rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hazards", "KLDivLoss"]) == 0
    *_, last = capsys.readouterr().out.strip().split("\n")
    its = [row for row in rows if row.loss == "SafeKLDivLoss"]
    silent = sum(row.native.outcome == "silent" for row in its)
    assert silent > 0
    assert last.startswith(f"Silent wrong results: PyTorch {silent}, safeloss 0.")
    assert f"Of {len(its)} calls on PyTorch" in last


def test_an_unknown_loss_is_told_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["hazards", "FocalLoss"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "'FocalLoss' is no loss" in said
    assert all(name in said for name in _hazards.LOSSES)


def test_a_loss_of_other_axes_has_no_calls() -> None:
    signature = safeloss.functional.mse_loss.signature
    pattern = safeloss.functional.cross_entropy.signature.reader.inputs[0].patterns[0]
    odd = signature.reader.inputs[0]._replace(patterns=(pattern._replace(text="[odd]"),))
    reader = signature.reader._replace(inputs=(odd, *signature.reader.inputs[1:]))

    class Odd(safeloss.SafeMSELoss):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor: ...

    Odd.forward.signature = dataclasses.replace(signature, reader=reader)
    assert outcomes(Odd) == []
