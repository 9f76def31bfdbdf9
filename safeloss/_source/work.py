"""One function over many files: on all cores where that pays, with a bar where it takes long."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

Result = TypeVar("Result")

_FEW = 40  # files: starting processes takes longer than they do
_BAR_AFTER = 2.0  # seconds
_CHUNK = 8


def over(
    files: Sequence[Path], ask: Callable[[Path], Result], lost: Callable[[Path], Result]
) -> Iterator[Result]:
    """What `ask` says of each file, in order; `lost` where asking ended its process."""
    cores = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else
                os.cpu_count() or 1, 8)  # fmt: skip
    bar = Bar(len(files))
    try:
        if len(files) < _FEW or cores == 1:
            for file in files:
                yield ask(file)
                bar.step()
        else:
            yield from _parallel(files, ask, lost, cores, bar)
    finally:
        bar.clear()


def _parallel(
    files: Sequence[Path],
    ask: Callable[[Path], Result],
    lost: Callable[[Path], Result],
    cores: int,
    bar: "Bar",
) -> Iterator[Result]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    done = 0
    # Processes that import this module anew: a fork of threads that hold locks may hang.
    context = multiprocessing.get_context("spawn")
    while done < len(files):
        with ProcessPoolExecutor(cores, mp_context=context) as pool:
            try:
                for result in pool.map(ask, files[done:], chunksize=_CHUNK):
                    yield result
                    done += 1
                    bar.step()
            except BrokenProcessPool:
                # One of the next files ended its process: each gets a process of its own.
                for file in files[done : done + cores * _CHUNK]:
                    yield _alone(file, ask, lost, context)
                    done += 1
                    bar.step()


def _alone(
    file: Path,
    ask: Callable[[Path], Result],
    lost: Callable[[Path], Result],
    context: "SpawnContext",
) -> Result:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(ask, file).result()
        except BrokenProcessPool:
            return lost(file)


class Bar:
    """A bar on the error stream of a terminal, from two seconds on."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.start = self.shown = time.monotonic()
        self.drawn = False

    def step(self) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.start < _BAR_AFTER or now - self.shown < 0.1 or not sys.stderr.isatty():
            return
        self.shown, self.drawn = now, True
        full = 30 * self.done // self.total
        bar = "#" * full + "." * (30 - full)
        print(f"\r[{bar}] {self.done} of {self.total} files", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
