"""A run on the terminal: progress and tables, in rich where it is installed, else plainly."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.record import Record
from benchmarks.tables import HEADINGS, between, cells_of, sections

try:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
except ImportError:
    RICH = False
else:
    RICH = True


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Something to tell what is being measured."""
    console = Console(stderr=True) if RICH else None
    if console is not None and console.is_terminal:
        # Redrawn only between comparisons: a thread that draws would take time from the rounds.
        bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
        )
        task = bar.add_task("")

        def drawn(what: str, done: int, of: int) -> None:
            bar.update(task, description=what, completed=done, total=of, refresh=True)

        with bar:
            yield drawn
    else:
        last = ""

        def printed(what: str, done: int, of: int) -> None:
            nonlocal last
            if what != last:
                print(f"[{done:4}/{of}] {what}", file=sys.stderr, flush=True)
            last = what

        yield printed


def show(record: Record) -> None:
    """Every row of `record`, a table for each section."""
    for section, rows in sections(record):
        _table(section, HEADINGS, [cells_of(row) for row in rows])
    for statement, times in record.imports.items():
        print(f"{statement}: {between(times, 1)} ms")
    if record.memory:
        print(f"MiB after {record.memory['shapes']} shapes: {record.memory['mib']}")
    for name, (forward, backward) in record.masked.items():
        print(f"{name}: {forward:.0f} MiB at the peak, {backward:.0f} with gradients")
    for name, there in record.others.items():
        if not there:
            print(f"{name}: not installed, so not measured")


def _table(title: str, headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    if RICH:
        table = Table(title=title, title_justify="left", box=SIMPLE)
        for position, heading in enumerate(headings):
            kept = position > 0  # only the names may wrap
            table.add_column(
                heading,
                justify="right" if position > 2 else "left",
                no_wrap=kept,
                overflow="fold",
            )
        for line in lines:
            table.add_row(*line)
        console = Console()
        # Into a file there is no width to keep to.
        Console(width=None if console.is_terminal else 170).print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(headings, *lines)]
    print(f"\n{title}")
    for line in (headings, *lines):
        print("  ".join([cell.ljust(width) for cell, width in zip(line, widths)]).rstrip())
