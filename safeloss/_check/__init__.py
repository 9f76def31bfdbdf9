"""`check`: is this model, with this loss, on this data, able to learn?"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from safeloss._audit import Audit
from safeloss._audit.probing import Generators, isolated
from safeloss._check import pictures
from safeloss._check.checks import BEFORE, CHECKS, QUICK
from safeloss._check.evidence import Evidence, Norm
from safeloss._check.inputs import raised
from safeloss._check.line import Line
from safeloss._check.program import Program, Run, Setting, uncompiled
from safeloss._progress import Progress
from safeloss._trace import trace
from safeloss.errors import SafeLossError, SuspiciousInputWarning

_FEWEST_TO_TELL = 4  # samples
_RUNS = 220  # of the step, about: most are trainings on the one batch
OUT_OF_REACH = (
    "Out of reach of one batch: targets that are shuffled against their inputs, data that differ "
    "in validation, and a learning rate that fails later."
)


@dataclass(frozen=True, eq=False, repr=False)
class Check:
    """What was found out about a training: print it, show it in a notebook, or `save` it.

    `lines` has one `Line` for each check, in a fixed order, with its `code`, `status` ("pass",
    "warn" or "fail"), `title`, and what was `seen`, is `expected`, and is to do (`advice`). A check
    that has nothing to say of this program has no line; `notes` says what could not be checked.
    """

    model: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    audit: Audit | None = field(default=None)  # of the loss, where it could be audited
    norms: tuple[Norm, ...] = ()  # of the gradient, for 1, 2, 4, ... samples

    @property
    def ok(self) -> bool:
        """Whether no line failed."""
        return all(line.status != "fail" for line in self.lines)

    def __repr__(self) -> str:
        return pictures.text(self)

    def __rich__(self) -> Any:
        return pictures.coloured(self)

    def _repr_html_(self) -> str:
        return pictures.fragment(self)

    def save(self, path: str | Path) -> None:
        """Write the report as one self-contained page.

        Raises:
            ValueError: a path that does not end in `.html`.
        """
        if Path(path).suffix != ".html":
            raise ValueError(f"{str(path)!r} does not end in .html")
        Path(path).write_text(pictures.page(self), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """The report for machines: nothing but strings, booleans, lists and dictionaries."""
        return {
            "ok": self.ok,
            "model": self.model,
            "lines": [line._asdict() for line in self.lines],
            "notes": list(self.notes),
        }

    def raise_if_failed(self) -> None:
        """Raise if a line failed; where lines only warn, warn.

        Raises:
            SafeLossError: with the code of the first line that failed.

        Warns:
            SuspiciousInputWarning: for each line that warns, if none failed.
        """
        failed = [line for line in self.lines if line.status == "fail"]
        if failed:
            first, *others = failed
            rule = f"{self.model} fails: {first.title}. {first.seen}"
            more = f"Also: {', '.join(f'{o.title} [{o.code}]' for o in others)}." if others else ""
            advice = " ".join(filter(None, [first.advice, more]))
            raise SafeLossError.about("check", rule, code=first.code, advice=advice) from None
        for line in self.lines:
            if line.status == "warn":
                text = f"[{line.code}] check: {line.title}: {line.seen}. {line.advice}"
                warnings.warn(SuspiciousInputWarning(text), stacklevel=2)


def check(
    model: nn.Module,
    batch: Any,
    loss: Callable[..., Any] | None = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    step: Callable[[Any, Any], Any] | None = None,
    batch_dim: int = 0,
    seconds: float = 60.0,
) -> Check:
    """Find out by trying whether `model` can learn `batch` with `loss`, before the first epoch.

    `batch` is what a loader gives: a tuple `(input, target)`, a dictionary, a dataclass. `loss` is
    called as `loss(model(input), target)`; a model that computes its loss itself needs none. Where
    it goes together in another way, `step=lambda model, batch: ...` gives the loss. The samples are
    counted along axis `batch_dim`. Only what is certain fails; what may be meant, or is often
    healthy, warns. It runs on copies, and nothing of the caller's changes. After `seconds` no
    further check begins.

    Raises:
        TypeError: a `model` that is no `nn.Module`.

    >>> model, mse = nn.Linear(3, 1), nn.MSELoss()
    >>> report = check(model, (torch.randn(8, 3), torch.randn(8)), mse)
    >>> report.ok, [line.code for line in report.lines if line.status == "fail"]
    (False, ['SL402', 'SL441'])
    >>> check(model, (torch.randn(8, 3), torch.randn(8, 1)), mse).ok
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be an nn.Module; it is a {type(model).__name__}")
    name = type(model).__name__
    with _prepared(model, (loss, step), seconds) as setting:
        try:
            program = Program(model, batch, loss, step, optimizer, batch_dim, setting)
        except Exception as error:  # whatever a model raises that takes its sizes from the batch
            return Check(name, (raised("step(model, batch)", [], error),), (OUT_OF_REACH,))
        try:
            return _report(name, program)
        finally:
            program.close()


@contextlib.contextmanager
def _prepared(model: nn.Module, reached: Any, seconds: float) -> Iterator[Setting]:
    """Whatever the caller has switched on or off, and whatever the loss closes over, as it was."""
    generators = Generators(next((p.device for p in model.parameters()), torch.device("cpu")))
    with isolated(reached, generators), uncompiled(), Progress("check", _RUNS) as progress:
        yield Setting(generators, progress, seconds)


def _report(name: str, program: Program) -> Check:
    with trace() as history:
        run, error = _tried(program)
    evidence = Evidence(program, run, error, history)
    if error is not None:
        first = raised(program.form.words, program.calls, error)
        lines = [first, *(line for each in BEFORE for line in each(evidence))]
        return Check(name, tuple(lines), ("A step that runs is needed for the rest.", OUT_OF_REACH))
    lines, notes = [], []
    if 0 < program.axis.size < _FEWEST_TO_TELL:
        notes.append(f"A batch of {program.axis.size} shows little: give 8 samples or more.")
    skipped = []
    for each in CHECKS:
        told = (each.__doc__ or "").splitlines()[0].removesuffix(".")
        if program.out_of_time and each not in QUICK:
            skipped.append(told)
            continue
        try:
            lines += each(evidence)
        except Exception as error:  # of a step on other batches than the one that was given
            notes.append(f"Not checked, since it raises {type(error).__name__}: {told}.")
    if skipped:
        notes.append(f"Not checked, since the time is spent: {'; '.join(skipped)}.")
    notes += evidence.notes
    if not program.copied:
        notes.append(
            "The model itself was used, and put back: it cannot be copied, or `step` trains it "
            "whatever model it is given."
        )
    return Check(
        name,
        tuple(lines),
        (*notes, OUT_OF_REACH),
        vars(evidence).get("audit"),
        tuple(vars(evidence).get("norms", ())),
    )


def _tried(program: Program) -> tuple[Run | None, Exception | None]:
    """The step from the beginning, or what it raised."""
    try:
        run = program.run()
        if program.use_the_original(run.value):
            run = program.run()
    except Exception as error:  # whatever a model or a loss raises
        return None, error
    return run, None
