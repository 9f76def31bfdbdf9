"""Takes the steps of a plan while there is time, and writes the record after each."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from benchmarks.cases import Case
from benchmarks.cuda.device import Device
from benchmarks.cuda.measures import take
from benchmarks.cuda.plan import Plan, Step, steps
from benchmarks.cuda.record import CudaRecord, begun
from benchmarks.record import first_line

Told = Callable[[str, int, int], None]  # what is being measured, how many are done, of how many
FIRST_S = {"compiled": 40.0}  # what a section's first step may take: the compiler has to start


def run(
    device: Device,
    plan: Plan,
    cases: tuple[Case, ...],
    output: Path | None,
    told: Told,
    record: CudaRecord | None = None,
) -> CudaRecord:
    """The record, which is in `output` too, whatever ended the run.

    With a `record` of this card, the steps that it lacks, or that failed then.
    """
    started = time.monotonic()
    todo = list(steps(plan, cases))
    if record is None:
        record = begun(device)
    else:
        todo = _lacking(record, todo, device)
    others = [name for name in record.left_out if name not in map(str, todo)]
    record.left_out = [*others, *map(str, todo)]
    seconds = record.seconds
    expected = dict(FIRST_S)  # of the next step of a section: as long as its last one took
    with _terminable():
        for done, step in enumerate(todo):
            told(f"{step.section}: {step.case.name}", done, len(todo))
            began = time.monotonic()
            if plan.budget_s - (began - started) < expected.get(step.section, 0.0):
                continue
            if error := _taken(device, step, plan, record):
                record.failed.append(f"{step}: {error}")
            record.left_out.remove(str(step))
            now = time.monotonic()
            expected[step.section] = now - began
            record.seconds = round(seconds + now - started, 1)
            if output is not None:
                record.save(output)
    return record


def _lacking(record: CudaRecord, todo: list[Step], device: Device) -> list[Step]:
    """Those of `todo` that `record` lacks; of these it no longer says that they failed."""
    here = begun(device)
    if (record.card, record.versions) != (here.card, here.versions):
        raise SystemExit(
            f"The record is of {record.card}, {record.versions}; here: {here.card}, "
            f"{here.versions}."
        )
    failed = {str(step): [f for f in record.failed if f.startswith(f"{step}: ")] for step in todo}
    lacking = [step for step in todo if str(step) in record.left_out or failed[str(step)]]
    again = [line for step in lacking for line in failed[str(step)]]
    record.failed = [line for line in record.failed if line not in again]
    return lacking


def _taken(device: Device, step: Step, plan: Plan, record: CudaRecord) -> str:
    """What `step` raised, if it did."""
    try:
        take(device, step, plan.pace, record)
    except Exception as error:  # one comparison that fails leaves the others
        return first_line(error)
    return ""


@contextmanager
def _terminable() -> Iterator[None]:
    """A request to end (`timeout`, a batch system) ends the run at the next line of Python."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(f"Ended by {signal.Signals(number).name}; what was measured so far is written.")

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
