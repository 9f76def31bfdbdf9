"""What the installed PyTorch does with the calls that people write, and what the losses here do.

Every call of `grid` is judged by one oracle: its axes have names, so it is known which target
each prediction has, and PyTorch, given one sample after the other, says what is right. A number
is right if it and its gradient are those. Nothing is listed by hand but the calls.
"""

from collections.abc import Sequence

from torch import nn

from safeloss._hazards.cases import cases
from safeloss._hazards.outcomes import Row, outcomes
from safeloss._hazards.report import as_json, as_markdown, as_text
from safeloss._progress import Progress
from safeloss.losses import SAFE, MultiLabelBCE

LOSSES: dict[str, type[nn.Module]] = {
    safe.__name__: safe for safe in (*SAFE.values(), MultiLabelBCE)
}
FORMS = {"text": as_text, "json": as_json, "markdown": as_markdown}


def rows(names: Sequence[str] = ()) -> list[Row]:
    """What becomes of every call of these losses, or of all."""
    losses = [LOSSES[name] for name in names or LOSSES]
    with Progress("hazards", sum(len(cases(loss)) for loss in losses)) as progress:
        return [row for loss in losses for row in outcomes(loss, progress)]


def run(names: Sequence[str], form: str) -> int:
    """Print what becomes of the calls; the exit code is 1 if a loss here is silently wrong."""
    found = rows(names)
    print(FORMS[form](found))
    return int(any(row.safe.outcome in ("silent", "repeats") for row in found))
