"""The device of a run: a GPU, or in a rehearsal a CPU in its place."""

from types import ModuleType
from typing import NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmarks.cuda import stand_in


class Device(NamedTuple):
    """All that differs between a measurement and its rehearsal."""

    name: str  # as `torch.device` takes it
    gpu: ModuleType  # `torch.cuda`, or what stands in for it
    activities: tuple[ProfilerActivity, ...]
    kind: DeviceType  # of the profiler's events that count as kernels
    backend: str  # of `torch.compile`
    rehearsal: bool

    def __str__(self) -> str:
        return self.name


CUDA = Device(
    "cuda",
    torch.cuda,
    (ProfilerActivity.CPU, ProfilerActivity.CUDA),
    DeviceType.CUDA,
    "inductor",
    rehearsal=False,
)
REHEARSAL = Device(
    "cpu", stand_in, (ProfilerActivity.CPU,), DeviceType.CPU, "eager", rehearsal=True
)


def chosen(rehearse: bool) -> Device:
    """The device to run on; without a GPU only a rehearsal is possible."""
    if rehearse:
        return REHEARSAL
    if not torch.cuda.is_available():
        raise SystemExit(
            "There is no CUDA device. `--rehearse` runs all of it on the CPU, and measures nothing."
        )
    return CUDA
