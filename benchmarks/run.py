"""Makes the comparisons of a plan, one after the other, and keeps what it finds."""

from collections.abc import Callable

import torch

from benchmarks import imports, instructions, memory
from benchmarks.arms import Cell, arms
from benchmarks.cases import Case, prepared, shapes
from benchmarks.cold import cold
from benchmarks.others import installed
from benchmarks.plan import Plan, cells
from benchmarks.record import Record, Row, begun, filled, first_line
from benchmarks.timing import Times, measure

Told = Callable[[str, int, int], None]  # what is being measured, how many are done, of how many


def run(
    plan: Plan, cases: tuple[Case, ...], own: tuple[Case, ...], quick: bool, told: Told
) -> Record:
    record = begun(quick)
    record.others = installed()
    todo, threads = list(cells(plan, cases, own)), torch.get_num_threads()
    for done, cell in enumerate(todo):
        told(f"{cell.section}: {cell.case.name}", done, len(todo))
        record.rows += _rows(cell, plan)
    told("instructions", len(todo), len(todo))
    if cases and instructions.available():
        record.instructions = instructions.counts(list(cases))
    told("imports", len(todo), len(todo))
    record.imports = imports.milliseconds()
    told("memory", len(todo), len(todo))
    record.memory = memory.row(memory.adversary(plan.shapes))
    told("memory under a mask", len(todo), len(todo))
    record.masked = memory.masked()
    torch.set_num_threads(threads)
    return record


def _rows(cell: Cell, plan: Plan) -> list[Row]:
    """What `cell` says of every arm but the native one; a comparison that fails says why."""
    torch.set_num_threads(cell.threads)
    try:
        return filled(_row(cell), _times(cell, plan))
    except Exception as error:  # one comparison that fails leaves the others
        row = _row(cell)
        row.error = first_line(error)
        return [row]


def _times(cell: Cell, plan: Plan) -> Times:
    if cell.section.startswith("cold"):
        return cold(cell, plan.pace.rounds)
    return measure(arms(cell), plan.pace)


def _row(cell: Cell) -> Row:
    found = shapes(prepared(cell.case, cell.elements, backward=False)) if cell.elements else []
    return Row(cell.section, cell.case.name, "", cell.elements, found, cell.backward, cell.threads)
