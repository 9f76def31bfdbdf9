"""Paired timing: all arms in every round, in rotating order, so that drift hits them alike."""

import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

NATIVE = "native"  # the arm that the others are compared with
MIN_ROUNDS = 7  # rounds, below which quartiles say nothing


# Thread time leaves out other processes. With one torch thread it includes the backward pass,
# which autograd runs on the thread that asks for it on a CPU.
HAS_THREAD_CLOCK = time.get_clock_info("thread_time").resolution < 1e-6


def clock(threads: int) -> Callable[[], float]:
    return time.thread_time if HAS_THREAD_CLOCK and threads == 1 else time.perf_counter


class Loop(Protocol):
    """Whatever can run a statement a number of times and tell the seconds."""

    def timeit(self, number: int) -> float: ...


class Pace(NamedTuple):
    """The time budget of a comparison."""

    rounds: int
    most_s: float  # for all rounds, of which there are fewer where they would take more
    round_s: float = 2e-3  # shorter ones are ruled by the clock and by interrupts
    warm_up_s: float = 10e-3  # of each arm


class Times(NamedTuple):
    """Microseconds per call of each arm, round by round."""

    by_arm: dict[str, list[float]]
    calls: int


def loop(call: Callable[..., Tensor], inputs: Sequence[Tensor], backward: bool) -> timeit.Timer:
    """A timer of `call(*inputs)`, with its gradients if `backward`; the collector is off meanwhile.

    Gradients are returned rather than accumulated, which would add an operation of its own.
    """
    names = [f"input{position}" for position in range(len(inputs))]
    scope: dict[str, Any] = {**dict(zip(names, inputs)), "call": call}
    statement = f"call({', '.join(names)})"
    if backward:
        scope["grad"] = torch.autograd.grad
        scope["leaves"] = [tensor for tensor in inputs if tensor.requires_grad]
        statement = f"grad({statement}, leaves)"
    return timeit.Timer(statement, timer=clock(torch.get_num_threads()), globals=scope)


def measure(arms: Mapping[str, Loop], pace: Pace) -> Times:
    """Time every arm in each round."""
    once = [_warmed(arm, pace.warm_up_s) for arm in arms.values()]
    calls = max(1, round(pace.round_s / min(once)))
    rounds = max(MIN_ROUNDS, min(pace.rounds, int(pace.most_s / (calls * sum(once)))))
    by_arm: dict[str, list[float]] = {name: [] for name in arms}
    for name in order(list(arms), rounds):
        by_arm[name].append(arms[name].timeit(calls) / calls * 1e6)
    return Times(by_arm, calls)


def order(names: list[str], rounds: int) -> list[str]:
    """The arms of every round: each takes each place in turn, and every other round is reversed."""
    turns = []
    for number in range(rounds):
        start = number // 2 % len(names)
        rotated = names[start:] + names[:start]
        turns += rotated if number % 2 == 0 else rotated[::-1]
    return turns


def _warmed(arm: Loop, warm_up_s: float) -> float:
    """Seconds per call once caches, allocators and compilers have settled."""
    spent, best = arm.timeit(1), float("inf")
    while spent < warm_up_s or best == float("inf"):
        seconds = arm.timeit(5)
        spent, best = spent + seconds, min(best, seconds / 5)
    return best
