"""What a guard adds to a small training loop: `python -m benchmarks.diagnostics_guard`."""

import contextlib
import functools
import statistics
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import safeloss
from benchmarks.timing import clock, measure

ROUNDS, MOST_S = 60, 30.0


class Through(TorchFunctionMode):
    """What torch itself takes for showing each call to a mode in Python."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


WATCHING: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "off": contextlib.nullcontext,
    "an empty mode": Through,
    "guard": safeloss.guard,
    "guard, arithmetic": functools.partial(safeloss.guard, arithmetic=True),
}


class Training(NamedTuple):
    """A training loop that somebody watches."""

    step: Callable[[], None]
    watching: Callable[[], contextlib.AbstractContextManager[Any]]

    def timeit(self, number: int) -> float:
        timer = timeit.Timer(self.step, timer=clock(torch.get_num_threads()))
        with self.watching():
            return timer.timeit(number)


def step(batch: int, features: int = 10, width: int = 64) -> Callable[[], None]:
    """One step of Adam on a model of two layers, with a loss of torch's and a term by hand."""
    model = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer, loss = torch.optim.Adam(model.parameters()), nn.BCEWithLogitsLoss()
    x, labels = torch.randn(batch, features), torch.rand(batch, 1)

    def train() -> None:
        optimizer.zero_grad()
        scores = model(x)
        (loss(scores, labels) + 1e-4 * scores.square().mean()).backward()
        optimizer.step()

    return train


def guard(batch: int) -> dict[str, list[float]]:
    """Microseconds per step, round by round, of each way to watch."""
    arms = {name: Training(step(batch), watching) for name, watching in WATCHING.items()}
    return measure(arms, ROUNDS, MOST_S).by_arm


def main() -> None:
    torch.set_num_threads(1)
    for batch in (32, 4096):
        times = guard(batch)
        off = times["off"]
        for name, measured in times.items():
            added = statistics.median(its - base for its, base in zip(measured, off))
            ratio = statistics.median(its / base for its, base in zip(measured, off))
            print(f"B = {batch:<5} {name:<18} {statistics.median(measured):8.1f} us a step"
                  f"   +{added:.1f} us   x{ratio:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
