"""The way of a call through the files of the library: `python -m benchmarks.walk`.

It counts what a reader has to follow: calls of functions of ours, how deep they nest, in how many
files they are, and how often one file calls into another.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

import safeloss

OURS = str(Path(safeloss.__file__).parent)


class Walk(NamedTuple):
    """What was counted on the way of one call."""

    calls: int
    depth: int
    files: int
    moves: int


def walked(call: Callable[[], Any]) -> Walk:
    """The way of `call`, whatever it raises."""
    calls = depth = moves = 0
    files: set[str] = set()
    deepest, stack = 0, [""]

    def see(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls, depth, deepest, moves
        file = frame.f_code.co_filename
        if not file.startswith((OURS, "<safeloss")):
            return
        if event == "call":
            calls, depth = calls + 1, depth + 1
            deepest = max(deepest, depth)
            files.add(file)
            moves += file != stack[-1]
            stack.append(file)
        elif event == "return":
            depth -= 1
            stack.pop()

    sys.setprofile(see)
    try:
        call()
    except safeloss.SafeLossError:
        pass
    finally:
        sys.setprofile(None)
    return Walk(calls, deepest, len(files), moves)


def main() -> None:
    bce, warm = safeloss.SafeBCEWithLogitsLoss(), safeloss.SafeMSELoss()
    warm(torch.zeros(4, 1), torch.zeros(4))
    head = torch.nn.Linear(2, 1)  # whose scores tell by their graph that no activation made them
    x, y = head(torch.zeros(8, 2)), torch.ones(8)
    walks = {
        "first call": walked(lambda: bce(x, y)),
        "hit": walked(lambda: bce(x, y)),
        "another length": walked(lambda: bce(head(torch.zeros(9, 2)), torch.ones(9))),
        "first refusal": walked(lambda: bce(torch.zeros(8, 3), torch.ones(8))),
    }
    print("| call | calls | depth | files | moves |\n|---|--:|--:|--:|--:|")
    for name, walk in walks.items():
        print(f"| {name} | {' | '.join(f'{count:,}' for count in walk)} |")


if __name__ == "__main__":
    main()
