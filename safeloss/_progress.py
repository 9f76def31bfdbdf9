"""A progress bar for a terminal, for work of which nobody knows whether it will take long."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

PATIENCE = 2.0  # seconds without a bar
_OFTEN = 0.1  # seconds between two pictures of it
_WIDTH = 30


class Progress:
    """Counts steps, and shows a bar from two seconds on, where somebody can see it go away."""

    def __init__(
        self,
        title: str,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._done, self._total, self._clock = title, 0, total, clock
        self._stream = sys.stderr if stream is None else stream
        self._begun = clock()
        self._next = self._begun + PATIENCE
        self._shown = 0  # characters of the line
        self._seen = self._stream is not None and self._stream.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *raised: object) -> None:
        if self._shown:
            self._write("")

    def expect(self, steps: int) -> None:
        """There is more to do than was known."""
        self._total += steps

    def step(self) -> None:
        """One step is done."""
        self._done += 1
        if self._seen and (now := self._clock()) >= self._next:
            self._next = now + _OFTEN
            share = min(1.0, self._done / max(1, self._total))
            bar = "#" * round(share * _WIDTH)
            spent = now - self._begun
            self._write(f"{self._title} [{bar:.<{_WIDTH}}] {share:4.0%}, {spent:.0f} s")

    def _write(self, line: str) -> None:
        self._stream.write(f"\r{line:<{self._shown}}" + ("" if line else "\r"))
        self._stream.flush()
        self._shown = max(self._shown, len(line))
