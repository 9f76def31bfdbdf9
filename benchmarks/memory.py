"""The memory of one loss: under an adversary who never repeats a shape, and under a mask.

`python -m benchmarks.memory NAME` runs one of the losses under a mask in a process of its own.
"""

import gc
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import safeloss

LOOKS = 10  # at the memory, over a run
MOST = 1024  # elements along an axis

SCORES = (8, 1024, 32000)  # batch, time, classes: 1000 MiB in float32
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


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


def _ignored(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return F.cross_entropy(scores.movedim(-1, 1), target.masked_fill(~mask, -100))


def _by_hand(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    each = F.cross_entropy(scores.movedim(-1, 1), target, reduction="none")
    return torch.where(mask, each, 0).sum() / mask.sum()


def _safe(scores: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return safeloss.SafeCrossEntropyLoss(class_dim=-1)(scores, target, mask=mask)


UNDER_A_MASK: dict[str, Loss] = {
    "PyTorch, `ignore_index`": _ignored,
    "PyTorch, unreduced and by hand": _by_hand,
    "`SafeCrossEntropyLoss`, `mask=`": _safe,
}


def masked() -> dict[str, list[float]]:
    """MiB beyond the inputs at the peak of a first call, and with its gradients, by loss."""
    peaks = {}
    for name in UNDER_A_MASK:
        command = [sys.executable, "-m", "benchmarks.memory", name]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[name] = [float(peak) for peak in printed.split()]
    return peaks


def _print_peaks(loss: Loss) -> None:
    scores = torch.randn(SCORES).requires_grad_()
    target, mask = torch.randint(SCORES[-1], SCORES[:2]), torch.rand(SCORES[:2]) < 0.8
    before = _peak()
    result = loss(scores, target, mask)
    forward = _peak()
    result.backward()
    print(forward - before, _peak() - before)


def _peak() -> float:
    """The most MiB that the process ever held; of a child, Linux' `ru_maxrss` is its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found is not None:
            return int(found[1]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


if __name__ == "__main__":
    _print_peaks(UNDER_A_MASK[sys.argv[1]])
