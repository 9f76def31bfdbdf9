"""The memory of one loss under an adversary who never repeats a shape."""

import gc
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import safeloss

LOOKS = 10  # at the memory, over a run
MOST = 1024  # elements along an axis


def adversary(shapes: int) -> list[tuple[int, float]]:
    """How many shapes were seen, and the MiB that the process had then."""
    loss = safeloss.SafeMSELoss(check_values="never")
    seen, looks = 0, []
    for seen, shape in enumerate(_distinct(shapes), 1):
        # Expanded from one number: the shapes are what is new, not the elements.
        x = torch.zeros(()).expand(shape)
        loss(x, x)
        if seen % (shapes // LOOKS) == 0:
            gc.collect()
            looks.append((seen, _mebibytes()))
    assert seen == shapes
    return looks


def _distinct(shapes: int) -> Iterator[tuple[int, ...]]:
    for number in range(shapes):
        ones, rest = divmod(number, MOST)
        rows, rank = ones % 32, ones // 32
        yield (*(1 for _ in range(rank)), rows + 1, rest % 4 + 1, rest // 4 + 1)


def _mebibytes() -> float:
    """What the process holds now; on systems that do not tell, the most that it ever held."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def row(looks: list[tuple[int, float]]) -> dict[str, Any]:
    return {"shapes": [seen for seen, _ in looks], "mib": [round(mib, 1) for _, mib in looks]}
