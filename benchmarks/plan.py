"""Which comparisons a run makes, and how long it may take over each."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.arms import Cell
from benchmarks.cases import Case
from benchmarks.others import COMPARED
from benchmarks.timing import Pace
from benchmarks.weights import FORMS, WEIGHTED

VALUES_AT = 4096  # elements
FRESH_AT = 256


class Plan(NamedTuple):
    """How much a run measures."""

    sizes: tuple[int, ...]
    compiled: tuple[int, ...]  # sizes that are compiled too, which takes seconds each
    threads: tuple[int, ...]
    pace: Pace
    shapes: int  # that never repeat, for the memory


QUICK = Plan((1, 64, 4096, 262144, 2**22), (4096,), (1,), Pace(31, 1.0), shapes=10**5)
FULL = Plan(
    (1, 16, 256, 4096, 65536, 262144, 2**20, 2**22),
    (1, 4096, 262144),
    tuple(sorted({1, os.cpu_count() or 1})),
    pace=Pace(51, 2.5),
    shapes=10**6,
)


def cells(plan: Plan, cases: tuple[Case, ...], own: tuple[Case, ...] = ()) -> Iterator[Cell]:
    """All comparisons, in the order they are made; `own` are losses that PyTorch lacks.

    New signatures are measured before anything is compiled and again afterwards, since Dynamo,
    once it is imported, makes them dearer.
    """
    passes = (False, True)
    yield from (
        Cell("eager", case, size, backward, threads)
        for threads in plan.threads
        for case in cases
        for size in plan.sizes
        for backward in passes
    )
    yield from (
        Cell("function", case, size, backward, 1)
        for case in cases
        if case.safe_function is not None
        for size in plan.sizes
        for backward in passes
    )
    yield from (Cell("fresh", case, FRESH_AT, back, 1) for case in cases for back in passes)
    yield from (
        Cell("elsewhere", case, size, backward, 1)
        for case in cases
        if case.name in COMPARED
        for size in plan.compiled
        for backward in passes
    )
    yield from (
        Cell(form, case, size, backward, 1)
        for form in FORMS
        for case in cases
        if case.name in WEIGHTED
        for size in plan.sizes
        for backward in passes
    )
    yield from (
        Cell("own", case, size, back, 1) for case in own for size in plan.sizes for back in passes
    )
    yield from (Cell("values", case, VALUES_AT, back, 1) for case in cases for back in passes)
    yield from (Cell("cold", case, 0, False, 1) for case in cases)
    yield from (
        Cell("compiled", case, size, backward, threads)
        for threads in plan.threads
        for case in cases
        if case.compiles
        for size in (plan.compiled if threads == 1 else plan.compiled[-1:])
        for backward in passes
    )
    yield from (
        Cell(f"{form}, compiled", case, size, backward, 1)
        for form in FORMS
        for case in cases
        if case.name in WEIGHTED
        for size in plan.compiled
        for backward in passes
    )
    yield from (
        Cell("own, compiled", case, size, back, 1)
        for case in own
        for size in plan.sizes
        for back in passes
    )
    yield from (Cell("cold, compiler loaded", case, 0, False, 1) for case in cases)
