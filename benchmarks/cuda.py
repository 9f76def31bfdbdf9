"""The part that needs a CUDA device: times by events, and the kernels that the profiler saw."""

import timeit
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.arms import NATIVE, Cell, eager
from benchmarks.cases import Case, as_passed, prepared
from benchmarks.timing import Loop, Times, loop, measure

NOT_RUN = "not run: there is no CUDA device"


class Events:
    """A loop timed by the device, from its first kernel to its last."""

    def __init__(self, timer: Loop) -> None:
        self.timer = timer

    def timeit(self, number: int) -> float:
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        self.timer.timeit(number)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3


def timed(cell: Cell, rounds: int, most_s: float) -> Times:
    inputs = prepared(cell.case, cell.elements, cell.backward, "cuda")
    found = eager(cell.case, inputs, cell.backward)
    return measure({name: Events(arm) for name, arm in found.items()}, rounds, most_s)


def kernels(arm: timeit.Timer, device: DeviceType = DeviceType.CUDA) -> list[str]:
    """The names of what ran on `device` during one call, in order, copies included."""
    arm.timeit(3)
    activities = [ProfilerActivity.CPU]
    if device == DeviceType.CUDA:
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    with profile(activities=activities) as profiler:
        arm.timeit(1)
        if device == DeviceType.CUDA:
            torch.cuda.synchronize()
    seen = [event for event in profiler.events() or () if event.device_type == device]
    return [event.name for event in sorted(seen, key=lambda event: event.time_range.start)]


def compared(case: Case, elements: int, device: str = "cuda") -> dict[str, Any]:
    """The kernels of forward and backward, native's and those of each way of calling safely."""
    inputs = prepared(case, elements, backward=True, device=device)
    kind = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    safe = case.safe(check_values="never")
    seen = {NATIVE: kernels(loop(case.native(), inputs, True), kind)}
    seen["aligned"] = kernels(loop(safe, inputs, True), kind)
    if case.normalised is not None:
        seen["normalised"] = kernels(loop(safe, as_passed(case, inputs), True), kind)
    same = {name: names == seen[NATIVE] for name, names in seen.items() if name != NATIVE}
    return {"loss": case.name, "elements": elements, "same": same, "kernels": seen}


def device_name() -> str:
    """The CUDA device, or why there are no times for one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else NOT_RUN
