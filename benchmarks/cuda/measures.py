"""What each section measures of one loss at one size."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import profile

from benchmarks import arms
from benchmarks.arms import Arms
from benchmarks.cases import Case, Tensors, as_passed, prepared, shapes
from benchmarks.cuda.device import Device
from benchmarks.cuda.plan import Step
from benchmarks.cuda.record import CudaRecord
from benchmarks.record import Row, filled
from benchmarks.timing import NATIVE, Loop, Pace, Times, loop, measure
from benchmarks.weights import FORMS

SYNCHRONISING = "called a synchronizing CUDA operation"  # what torch warns of
# The profiler's own work, which it may show among the kernels.
NOT_KERNELS = {"Activity Buffer Request", "Buffer Flush", "Command Buffer Full", "Instrumentation"}
QUEUED = 32  # calls at once: the host must not wait for a place in the queue of launches
CYCLES_PER_S = 3e9  # more than any GPU's clock


def take(device: Device, step: Step, pace: Pace, record: CudaRecord) -> None:
    """Measure `step` and keep what was found in `record`."""
    if step.section in LOOKS:
        found = LOOKS[step.section](device, step.case, step.elements)
        entry = {"loss": step.case.name, "elements": step.elements, **found}
        getattr(record, step.section).append(entry)
        return
    with torch.device("meta"):
        sizes = shapes(prepared(step.case, step.elements, backward=False))
    rows: list[Row] = []
    for backward in step.passes:
        for section, times in TIMED[step.section](device, step.case, step.elements, backward, pace):
            blank = Row(section, step.case.name, "", step.elements, sizes, backward, threads=1)
            rows += filled(blank, times)
    record.rows += rows  # all of a step, or nothing


# ---- inputs and ways of calling, on the device


@contextmanager
def _made_on(device: Device, dtype: torch.dtype) -> Iterator[None]:
    """Tensors and parameters are made on the device, and floating ones of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device.name):
            yield
    finally:
        torch.set_default_dtype(before)


def prepared_on(
    device: Device,
    case: Case,
    elements: int,
    backward: bool,
    dtype: torch.dtype = torch.float32,
) -> Tensors:
    with torch.device(device.name):
        inputs = prepared(case, elements, backward=False)
    cast = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    for position in case.scores:
        cast[position].requires_grad_(backward)
    return cast


def arms_on(
    device: Device,
    make: Callable[[Case, Tensors, bool], Arms],
    case: Case,
    elements: int,
    backward: bool,
    dtype: torch.dtype = torch.float32,
) -> Arms:
    inputs = prepared_on(device, case, elements, backward, dtype)
    with _made_on(device, dtype):
        return make(case, inputs, backward)


# ---- times


class Events(NamedTuple):
    """A loop timed by the device, from its first kernel to its last, inside a context."""

    loop: Loop
    gpu: Any
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def timeit(self, number: int) -> float:
        start, end = self.gpu.Event(enable_timing=True), self.gpu.Event(enable_timing=True)
        with self.context():
            self.gpu.synchronize()
            start.record()
            self.loop.timeit(number)
            end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3


class Host(NamedTuple):
    """A loop timed by the host, which only hands the work to the device."""

    loop: Loop
    gpu: Any

    def timeit(self, number: int) -> float:
        spent = 0.0
        for done in range(0, number, QUEUED):
            self.gpu.synchronize()
            started = time.perf_counter()
            self.loop.timeit(min(QUEUED, number - done))
            spent += time.perf_counter() - started
        self.gpu.synchronize()
        return spent


class Queued(NamedTuple):
    """A loop timed by the device, which was kept busy until all of the work was in its queue.

    So there is no gap between the kernels, however slow the host is.
    """

    loop: Loop
    gpu: Any
    host_s: float  # for a call

    def timeit(self, number: int) -> float:
        calls = min(QUEUED, number)
        start, end = self.gpu.Event(enable_timing=True), self.gpu.Event(enable_timing=True)
        self.gpu.synchronize()
        self.gpu._sleep(int(2 * calls * self.host_s * CYCLES_PER_S))
        start.record()
        self.loop.timeit(calls)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3 * number / calls


class Replay:
    """A loop over a CUDA graph, captured from one call."""

    def __init__(self, timer: Loop, gpu: Any, stream: Any) -> None:
        with gpu.stream(stream):
            timer.timeit(3)  # what is made at a first call must not be made in the graph
        self.graph = gpu.CUDAGraph()
        with gpu.graph(self.graph, stream=stream):
            timer.timeit(1)

    def timeit(self, number: int) -> float:
        for _ in range(number):
            self.graph.replay()
        return 0.0  # the device tells the time


Measured = list[tuple[str, Times]]  # by section


def _modules(
    section: str,
    device: Device,
    case: Case,
    elements: int,
    backward: bool,
    pace: Pace,
    *,
    make: Callable[[Case, Tensors, bool], Arms] = arms.eager,
    dtype: torch.dtype = torch.float32,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Measured:
    loops = arms_on(device, make, case, elements, backward, dtype)
    timed = {name: Events(arm, device.gpu, context) for name, arm in loops.items()}
    return [(section, measure(timed, pace))]


def _compiled(device: Device, case: Case, elements: int, backward: bool, pace: Pace) -> Measured:
    make = partial(arms.compiled, backend=device.backend)
    return _modules("compiled", device, case, elements, backward, pace, make=make)


def _autocast(device: Device, case: Case, elements: int, backward: bool, pace: Pace) -> Measured:
    """Scores of half precision, as a layer gives them inside autocast."""

    def make(case: Case, inputs: Tensors, backward: bool) -> Arms:
        halves = list(inputs)
        for position in case.scores:
            halves[position] = inputs[position].detach().bfloat16().requires_grad_(backward)
        return arms.eager(case, tuple(halves), backward)

    context = partial(torch.autocast, device.name, torch.bfloat16)
    return _modules("autocast", device, case, elements, backward, pace, make=make, context=context)


def _graph(device: Device, case: Case, elements: int, backward: bool, pace: Pace) -> Measured:
    stream = device.gpu.Stream()
    stream.wait_stream(device.gpu.current_stream())
    with device.gpu.stream(stream):  # views of leaves belong to the stream that makes them
        loops = arms_on(device, arms.eager, case, elements, backward)
    replays = {name: Replay(arm, device.gpu, stream) for name, arm in loops.items()}
    device.gpu.current_stream().wait_stream(stream)
    timed = {name: Events(replay, device.gpu) for name, replay in replays.items()}
    return [("graph", measure(timed, pace))]


def _host(device: Device, case: Case, elements: int, backward: bool, pace: Pace) -> Measured:
    """The host's time of a call, and the device's, behind which it hides where it is shorter."""
    loops = arms_on(device, arms.eager, case, elements, backward)
    host = measure({name: Host(arm, device.gpu) for name, arm in loops.items()}, pace)
    if not case.captures:
        return [("host", host)]  # it waits for the device in every call
    queued = {
        name: Queued(arm, device.gpu, max(host.by_arm[name]) * 1e-6) for name, arm in loops.items()
    }
    # Each round waits until the queue is filled, and nothing is left to be warmed up.
    device_s = measure(queued, pace._replace(rounds=9, warm_up_s=0.0))
    return [("host", host), ("device", device_s)]


TIMED: dict[str, Callable[[Device, Case, int, bool, Pace], Measured]] = {
    "eager": partial(_modules, "eager"),
    "host": _host,
    "graph": _graph,
    "bfloat16": partial(_modules, "bfloat16", dtype=torch.bfloat16),
    "autocast": _autocast,
    "naive": partial(_modules, "naive", make=arms.function),
    **{form: partial(_modules, form, make=partial(arms.weighted, form=form)) for form in FORMS},
    "compiled": _compiled,
}


# ---- what is counted


def launched(device: Device, arm: Loop) -> list[str]:
    """The names of what ran on the device during one call, in order, copies included."""
    arm.timeit(3)
    device.gpu.synchronize()
    with profile(activities=device.activities, acc_events=True) as profiler:
        arm.timeit(1)
        device.gpu.synchronize()
    events = [event for event in profiler.events() or () if event.device_type == device.kind]
    events.sort(key=lambda event: event.time_range.start)
    return [event.name for event in events if event.name not in NOT_KERNELS]


def _kernels(device: Device, case: Case, elements: int) -> dict[str, Any]:
    """The kernels of forward and backward, and whether they are PyTorch's."""
    loops = arms_on(device, arms.eager, case, elements, backward=True)
    seen = {name: launched(device, arm) for name, arm in loops.items()}
    same = {name: names == seen[NATIVE] for name, names in seen.items() if name != NATIVE}
    # A list that is equal to PyTorch's is not written twice.
    kept = {name: names for name, names in seen.items() if not same.get(name, False)}
    return {"same": same, "kernels": kept}


def synchronisations_of(device: Device, call: Callable[[], Any]) -> int:
    """How often `call` waits for the device."""
    device.gpu.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        device.gpu.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            device.gpu.set_sync_debug_mode("default")
    return sum(SYNCHRONISING in str(warning.message) for warning in caught)


def _synchronisations(device: Device, case: Case, elements: int) -> dict[str, Any]:
    """Those of the first call and of the second, forward and backward, by `check_values`."""
    inputs = prepared_on(device, case, elements, backward=True)
    with _made_on(device, torch.float32):
        modes = {mode: case.safe(check_values=mode) for mode in ("first", "never", "always")}
        calls: dict[str, tuple[Callable[..., Tensor], Tensors]] = {
            NATIVE: (case.native(), inputs),
            **{mode: (safe, inputs) for mode, safe in modes.items()},
        }
        if case.normalised is not None:
            normalised = as_passed(case, inputs)
            calls["normalised"] = (case.safe(check_values="never"), normalised)
    counts = {}
    for way, (call, given) in calls.items():
        timer = loop(call, given, backward=True)  # which is a place in the code of its own
        counts[way] = [synchronisations_of(device, partial(timer.timeit, 1)) for _ in range(2)]
    return {"counts": counts}


def _memory(device: Device, case: Case, elements: int) -> dict[str, Any]:
    """The most bytes that forward and backward held beyond their inputs."""
    loops = arms_on(device, arms.eager, case, elements, backward=True)
    return {"bytes": {name: _peak(device.gpu, arm) for name, arm in loops.items()}}


def _peak(gpu: Any, arm: Loop) -> int:
    arm.timeit(1)
    gpu.synchronize()
    gpu.reset_peak_memory_stats()
    before = gpu.memory_allocated()
    arm.timeit(1)
    gpu.synchronize()
    return gpu.max_memory_allocated() - before


LOOKS: dict[str, Callable[[Device, Case, int], dict[str, Any]]] = {
    "kernels": _kernels,
    "synchronisations": _synchronisations,
    "memory": _memory,
}
