"""The cold path: what a signature costs that was not seen before, as with varying lengths."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from benchmarks.arms import NATIVE, Cell
from benchmarks.cases import Tensors, prepared, shapes
from benchmarks.timing import Times, clock, order

LENGTHS = 64
STEP = 128  # elements, so that each length has its own batch, whatever the other axes

Losses = Sequence[Callable[..., Tensor]]  # one for each length, or the same one for all


class Pass:
    """One call for each length, by losses that are `made` before the clock starts."""

    def __init__(self, made: Callable[[], Losses], lots: list[Tensors]) -> None:
        self.made, self.lots = made, lots

    def timeit(self, number: int) -> float:
        """Seconds for `number` calls, which are as many passes as that takes."""
        spent, now = 0.0, clock(1)
        for _ in range(number // len(self.lots)):
            calls = list(zip(self.made(), self.lots, strict=True))
            gc.disable()
            started = now()
            for call, inputs in calls:
                call(*inputs)
            spent += now() - started
            gc.enable()
        return spent


def cold(cell: Cell, rounds: int) -> Times:
    """Every length once in each round, by PyTorch, and by safe losses that know less or more.

    "first": one that was never called; "another length": one that was, with another length; and
    "seen": one that was called with all of them.
    """
    lots = [prepared(cell.case, STEP * (1 + number), backward=False) for number in range(LENGTHS)]
    assert len({str(shapes(inputs)) for inputs in lots}) == LENGTHS
    other = prepared(cell.case, STEP * (1 + LENGTHS), backward=False)
    native, known = cell.case.native(), made(cell)

    def taught() -> Losses:
        loss = made(cell)
        loss(*other)
        return [loss] * LENGTHS

    arms = {
        NATIVE: Pass(lambda: [native] * LENGTHS, lots),
        "first": Pass(lambda: [made(cell) for _ in lots], lots),
        "another length": Pass(taught, lots),
        "seen": Pass(lambda: [known] * LENGTHS, lots),
    }
    for arm in arms.values():
        arm.timeit(2 * LENGTHS)
    by_arm: dict[str, list[float]] = {name: [] for name in arms}
    for name in order(list(arms), rounds):
        by_arm[name].append(arms[name].timeit(LENGTHS) / LENGTHS * 1e6)
    return Times(by_arm, LENGTHS)


def made(cell: Cell) -> Any:
    return cell.case.safe(check_values="never")
