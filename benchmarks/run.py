"""Makes the comparisons of a plan, one after the other, and keeps what it finds."""

from collections.abc import Callable

import torch

from benchmarks import cuda, imports, instructions, memory
from benchmarks.arms import NATIVE, Cell, arms
from benchmarks.cases import Case, prepared, shapes
from benchmarks.cold import cold
from benchmarks.others import installed
from benchmarks.plan import Plan, cells
from benchmarks.record import Record, Row, begun, spread
from benchmarks.timing import Times, measure

Told = Callable[[str, int, int], None]  # what is being measured, how many are done, of how many


def run(plan: Plan, cases: tuple[Case, ...], quick: bool, told: Told) -> Record:
    record = begun(quick)
    record.cuda = {"device": cuda.device_name()}
    record.others = installed()
    available = torch.cuda.is_available()
    todo, threads = list(cells(plan, cases, available)), torch.get_num_threads()
    for done, cell in enumerate(todo):
        told(f"{cell.section}: {cell.case.name}", done, len(todo))
        record.rows += _rows(cell, plan)
    told("instructions", len(todo), len(todo))
    if instructions.available():
        record.instructions = instructions.counts(list(cases))
    told("imports", len(todo), len(todo))
    record.imports = imports.milliseconds()
    told("memory", len(todo), len(todo))
    record.memory = memory.row(memory.adversary(plan.shapes))
    torch.set_num_threads(threads)
    if available:
        sizes = (plan.sizes[0], plan.sizes[-1])
        record.cuda["kernels"] = [cuda.compared(case, n) for case in cases for n in sizes]
    return record


def _rows(cell: Cell, plan: Plan) -> list[Row]:
    """What `cell` says of every arm but the native one; a comparison that fails says why."""
    torch.set_num_threads(cell.threads)
    try:
        times = _times(cell, plan)
    except Exception as error:  # one comparison that fails leaves the others
        row = _row(cell, "")
        row.error = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        return [row]
    native = times.by_arm[NATIVE]
    rows = []
    for arm, measured in times.by_arm.items():
        if arm != NATIVE:
            row = _row(cell, arm)
            row.native_us, row.us = spread(native), spread(measured)
            row.ratio = spread([ours / its for ours, its in zip(measured, native)])
            row.overhead_us = spread([ours - its for ours, its in zip(measured, native)])
            row.least_us = min(measured) - min(native)
            row.rounds, row.calls = len(native), times.calls
            rows.append(row)
    return rows


def _times(cell: Cell, plan: Plan) -> Times:
    if cell.section.startswith("cold"):
        return cold(cell, plan.rounds)
    if cell.section == "cuda":
        return cuda.timed(cell, plan.rounds, plan.most_s)
    return measure(arms(cell), plan.rounds, plan.most_s)


def _row(cell: Cell, arm: str) -> Row:
    found = shapes(prepared(cell.case, cell.elements, backward=False)) if cell.elements else []
    return Row(cell.section, cell.case.name, arm, cell.elements, found, cell.backward, cell.threads)
