"""What a guard finds: one entry for each line and loss, however often it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from safeloss._guard.caller import Caller, Site
from safeloss._messages.stack import Line
from safeloss.errors import SafeLossError


@dataclass(eq=False)
class Finding:
    """A line where PyTorch scores predictions against targets that are not theirs.

    `str(finding)` is the message.
    """

    loss: str  # "MSELoss" or "mse_loss", as it was called; "sub" for an operator
    file: str
    line: int
    source: str
    shapes: dict[str, tuple[int, ...]]  # of the first call, by argument
    fix: str  # the first of `error.fixes`, in the names of the line if known; or empty
    error: SafeLossError
    count: int = 1  # calls

    def __str__(self) -> str:
        times = f"   ({self.count} times)" if self.count > 1 else ""
        return f"{Line(self.file, self.line)}: {self.source}{times}\n{self.error}"


class Suspect(NamedTuple):
    """A call that is a finding if PyTorch computes it."""

    by: Caller
    loss: str
    tensors: Mapping[str, Tensor]
    explain: Callable[[], SafeLossError]


class Findings(list[Finding]):
    """What a guard found, and how many `calls` of native losses it saw."""

    calls = 0

    def __init__(self) -> None:
        self._sites: dict[Site, Finding] = {}

    def like(self, suspect: Suspect) -> Finding | None:
        """The finding of the same line and loss."""
        where = (*suspect.by.line, suspect.loss)
        return next((f for f in self if (f.file, f.line, f.loss) == where), None)

    def add(self, suspect: Suspect, error: SafeLossError) -> Finding:
        line, loss = suspect.by.line, suspect.loss
        shapes = {name: tuple(tensor.shape) for name, tensor in suspect.tensors.items()}
        fix = next((error.calls.get(fix, fix) for fix in error.fixes), "")
        self.append(Finding(loss, line.file, line.number, line.text, shapes, fix, error))
        self._sites[suspect.by.site] = self[-1]
        return self[-1]

    def withdraw(self, site: Site) -> None:
        """Take back what was found at `site`."""
        finding = self._sites.pop(site, None)
        if finding is not None and finding in self:
            self.remove(finding)
