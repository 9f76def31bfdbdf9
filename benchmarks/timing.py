"""Paired timing: all arms in every round, in a turning order, so that drift hits them alike."""

from typing import NamedTuple, Protocol

ROUND_S = 2e-3  # shorter ones are ruled by the clock and by interrupts
FEWEST = 7  # rounds, below which quartiles say nothing
WARM_UP_S = 10e-3  # of each arm, and at least two goes


class Loop(Protocol):
    """Whatever can run a statement a number of times and tell the seconds."""

    def timeit(self, number: int) -> float: ...


class Times(NamedTuple):
    """Microseconds per call of each arm, round by round."""

    by_arm: dict[str, list[float]] = {name: [] for name in arms}
    for name in order(list(arms), rounds):
        by_arm[name].append(arms[name].timeit(calls) / calls * 1e6)
    return Times(by_arm, calls)


def order(names: list[str], rounds: int) -> list[str]:
    """The arms of every round: each takes each place in turn, and every other round is reversed."""
    turns = []
    for number in range(rounds):
        start = number // 2 % len(names)
        turned = names[start:] + names[:start]
        turns += turned if number % 2 == 0 else turned[::-1]
    return turns


def _warmed(arm: Loop) -> float:
    """Seconds per call once caches, allocators and compilers have settled."""
    spent, best = arm.timeit(1), float("inf")
    while spent < WARM_UP_S or best == float("inf"):
        seconds = arm.timeit(5)
        spent, best = spent + seconds, min(best, seconds / 5)
    return best
