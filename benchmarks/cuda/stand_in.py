"""What stands in for `torch.cuda` on a CPU in a rehearsal: the same names with the same arguments.

Each stand-in does enough for the code around it to run and to be wrong: a captured graph replays
its operations, and a read of numbers counts as a synchronisation. Nothing that comes out of it is
a measurement of a GPU.
"""

import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

NAME = "REHEARSAL on a CPU: no measurement of any GPU"
HOST_READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal")


class Event:
    """A moment of the host, since a CPU has computed whatever was called."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.moment = 0.0

    def record(self, stream: Any = None) -> None:
        self.moment = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end_event: "Event") -> float:
        return (end_event.moment - self.moment) * 1e3


class Stream:
    def wait_stream(self, stream: Any) -> None:
        pass


def current_stream() -> Stream:
    return Stream()


@contextmanager
def stream(stream: Stream) -> Iterator[None]:
    yield


def synchronize() -> None:
    pass


def empty_cache() -> None:
    pass


def _sleep(cycles: int) -> None:
    pass


class _Recording(TorchDispatchMode):
    """Keeps the operations that are dispatched; what reads numbers is refused, as by a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().split(".")[0] in HOST_READS:
            raise RuntimeError(f"{func} is not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


class CUDAGraph:
    """Operations that are called again on the tensors that they were recorded with."""

    def __init__(self) -> None:
        self.recording = _Recording()

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self.recording.operations:
                for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs))):
                    # What a view or an operation in place gives is where it was.
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@contextmanager
def graph(cuda_graph: CUDAGraph, stream: Stream | None = None) -> Iterator[None]:
    with cuda_graph.recording:
        yield


_watching: list[profile] = []


def set_sync_debug_mode(debug_mode: str) -> None:
    """Leaving the mode "warn" gives the warnings that torch would have given inside it.

    A profiler sees the reads of numbers that a dispatch mode would not be shown.
    """
    if debug_mode == "warn":
        _watching.append(profile(activities=[ProfilerActivity.CPU], acc_events=True))
        _watching[-1].start()
    elif _watching:
        profiler = _watching.pop()
        profiler.stop()
        for event in profiler.events() or ():
            if event.name in HOST_READS:
                warnings.warn("called a synchronizing CUDA operation", stacklevel=2)


def memory_allocated() -> int:
    return 0


def max_memory_allocated() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory_stats() -> None:
    pass


def get_device_properties(device: int) -> SimpleNamespace:
    return SimpleNamespace(name=NAME, total_memory=0, multi_processor_count=0, major=0, minor=0)
