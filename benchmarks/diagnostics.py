"""What a diagnosis costs while it is on: `python -m benchmarks.diagnostics`.

A loop that trains, by itself and inside each context, in interleaved rounds; the ratios are taken
round by round.
"""

import argparse
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from timeit import Timer
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import safeloss
from benchmarks.timing import Loop, Pace, clock, measure

OFF = "off"


class Through(TorchFunctionMode):
    """What torch itself takes for showing each call to a mode in Python."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    OFF: nullcontext,
    "an empty mode of torch's": Through,
    "`trace`": safeloss.trace,
    "`guard`": safeloss.guard,
    "`guard(arithmetic=True)`": partial(safeloss.guard, arithmetic=True),
}


class Inside(NamedTuple):
    """A loop that runs inside a context."""

    context: Callable[[], AbstractContextManager[Any]]
    loop: Loop

    def timeit(self, number: int) -> float:
        with self.context():
            return self.loop.timeit(number)


def training(model: nn.Module, *shape: int) -> Callable[[], None]:
    """One step of training `model` on a batch of inputs of `shape`: Adam, two classes."""
    loss, optimizer = nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters())
    inputs, labels = torch.randn(shape), torch.rand(shape[0]).round()

    def step() -> None:
        optimizer.zero_grad()
        loss(model(inputs).squeeze(1), labels).backward()
        optimizer.step()

    return step


def loops() -> dict[str, Callable[[], None]]:
    perceptron = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
    convolutions = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 24 * 24, 1),
    )  # fmt: skip
    return {
        "two linear layers, batch 64": training(perceptron, 64, 20),
        "two convolutions, 28 x 28, batch 32": training(convolutions, 32, 1, 28, 28),
    }


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.diagnostics", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, one thread; medians, and quartiles of the ratios.\n")
    print("| step of training | inside | us | ratio | quartiles |\n|---|---|---|---|---|")
    for name, step in loops().items():
        timer = Timer(step, timer=clock(1))
        arms = {inside: Inside(context, timer) for inside, context in CONTEXTS.items()}
        times = measure(arms, Pace(given.rounds, most_s=120)).by_arm
        for inside, us in times.items():
            ratios = [on / off for on, off in zip(us, times[OFF])]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(
                f"| {name} | {inside} | {statistics.median(us):.0f} | {middle:.2f} |"
                f" {low:.2f} to {high:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
