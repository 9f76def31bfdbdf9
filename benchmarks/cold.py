"""The cold path: what a signature costs that was not seen before, as with varying lengths."""

import gc
from collections.abc import Callable
from typing import Any

from torch import Tensor

from benchmarks.arms import NATIVE, Cell
from benchmarks.cases import Tensors, prepared, shapes
from benchmarks.timing import Times, clock, order

LENGTHS = 64
STEP = 128  # elements, so that each length has its own batch, whatever the other axes


class Pass:
    """One call for each length, by a loss that is `made` before the clock starts."""

    def __init__(self, made: Callable[[], Any], lots: list[Tensors]) -> None:
        self.made, self.lots = made, lots

    def timeit(self, number: int) -> float:
        """Seconds for `number` calls, which are as many passes as that takes."""
        spent, now = 0.0, clock(1)
        for _ in range(number // len(self.lots)):
            call: Callable[..., Tensor] = self.made()
            gc.disable()
            started = now()
            for inputs in self.lots:
                call(*inputs)
            spent += now() - started
            gc.enable()
        return spent


def cold(cell: Cell, rounds: int) -> Times:
    """Every length once in each round; the safe module is new, or knows all of them ("seen")."""
    lots = [prepared(cell.case, STEP * (1 + number), backward=False) for number in range(LENGTHS)]
    assert len({str(shapes(inputs)) for inputs in lots}) == LENGTHS
    native, known = cell.case.native(), cell.case.safe(check_values="never")
    arms = {
        NATIVE: Pass(lambda: native, lots),
        "new": Pass(lambda: cell.case.safe(check_values="never"), lots),
        "seen": Pass(lambda: known, lots),
    }
    for arm in arms.values():
        arm.timeit(2 * LENGTHS)
    by_arm: dict[str, list[float]] = {name: [] for name in arms}
    for name in order(list(arms), rounds):
        by_arm[name].append(arms[name].timeit(LENGTHS) / LENGTHS * 1e6)
    return Times(by_arm, LENGTHS)
