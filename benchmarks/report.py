"""A run as a page of the docs: `benchmarks.md`, its two plots and the data they come from."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cuda import page as cuda
from benchmarks.cuda.record import CudaRecord
from benchmarks.memory import SCORES
from benchmarks.plots import added_at_one, ratio_by_size
from benchmarks.record import Record
from benchmarks.tables import HEADINGS, SECTIONS, between, by_size, cells_of, markdown
from benchmarks.weights import FORMS

# The sections that have many sizes.
BY_SIZE = ("eager", "function", "compiled", "own", "own, compiled")
BY_SIZE += (*FORMS, *(f"{form}, compiled" for form in FORMS))
ADDED, RATIO = "benchmarks-added.png", "benchmarks-ratio.png"


def write(record: Record, folder: Path) -> None:
    """Everything that the docs need, into `folder`."""
    record.save(folder / "benchmarks.json")
    (folder / "benchmarks.md").write_text(page(record, cuda.records(folder)))
    added_at_one(record, folder / ADDED)
    one_thread = [row for row in record.rows if row.threads == 1]
    ratio_by_size(one_thread, "one thread", folder / RATIO)


def page(record: Record, gpus: Sequence[CudaRecord]) -> str:
    """The page, which says nothing that is not in a record."""
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks --report docs/`; do not edit.",
        _where(record),
        "Each number is the median of interleaved rounds. Ratios and differences are taken within "
        "each round, then the median of those, with the quartiles in brackets; below 1 the safe "
        "loss is the faster one. *aligned* inputs have the shapes that PyTorch wants; *normalised* "
        "ones are repaired by a view (`[batch]` for `[batch, 1]`), and PyTorch gets the repaired "
        "ones.",
        "Safe losses dispatch PyTorch's operations, on equal shapes, element types and strides, "
        "forward and backward, and keep as many bytes in between; compiled, the graphs are equal "
        "node by node. `tests/test_laws.py` and `tests/test_compile.py` hold that, without a "
        "clock. Equal operations on equal inputs launch equal kernels, on a GPU too. What is left "
        "is what happens around them, and is measured here.",
        "## What a call costs more",
        f"![Microseconds added to one call, by loss]({ADDED})",
        "## Ratio to PyTorch, by size",
        f"![Ratio to PyTorch against the number of elements]({RATIO})",
    ]
    parts += _by_size(record, "eager")
    for section, title in SECTIONS.items():
        rows = [row for row in record.rows if row.section == section]
        if section in BY_SIZE[1:] and rows:
            parts += [f"## {title}", *_by_size(record, section)]
        elif section not in BY_SIZE and rows:
            parts += [f"## {title}", markdown(HEADINGS, [cells_of(row) for row in rows])]
    missing = [name for name, there in record.others.items() if not there]
    if missing:
        parts += [f"Not installed, and so not measured: {', '.join(missing)}."]
    if record.instructions:
        parts += ["## Instructions of one call", _instructions(record)]
    if record.imports:
        parts += ["## First import", _imports(record)]
    if record.memory:
        parts += ["## Memory, where no shape repeats", _memory(record)]
    if record.masked:
        parts += ["## Peak memory under a mask", _masked(record)]
    parts += ["## CUDA", *cuda.in_short(gpus)]
    return "\n\n".join(parts) + "\n"


def _where(record: Record) -> str:
    machine, versions = record.machine, record.versions
    names = ", ".join([f"{name} {number}" for name, number in versions.items()])
    pace = "a quick run" if record.quick else "a full run"
    return f"{machine['cpu']}, {machine['cores']} cores, {names}; {pace} of {record.date[:10]}."


def _by_size(record: Record, section: str) -> list[str]:
    """A table for each number of threads."""
    found = [row for row in record.rows if row.section == section]
    parts = []
    for threads in sorted({row.threads for row in found}):
        count = f"On {threads} thread{'s' if threads > 1 else ''}, ratios by number of elements:"
        parts += [count, by_size([row for row in found if row.threads == threads])]
    return parts


def _instructions(record: Record) -> str:
    lines = [
        (name, f"{native:,}", f"{safe:,}", f"{safe - native:+,}", f"{safe / native:.3f}")
        for name, (native, safe) in record.instructions.items()
    ]
    table = markdown(
        ("module, forward, the smallest batch", "PyTorch", "safe", "added", "ratio"), lines
    )
    return f"Counted by valgrind, whatever else the machine did.\n\n{table}"


def _imports(record: Record) -> str:
    lines = [(f"`{name}`", between(times, 1)) for name, times in record.imports.items()]
    table = markdown(("after torch, jaxtyping and beartype", "milliseconds"), lines)
    return (
        "Of the process' own time, without the collection of torch's objects that Python may do "
        f"at any time.\n\n{table}"
    )


def _memory(record: Record) -> str:
    headings = ("shapes seen by one loss", *(f"{seen:,}" for seen in record.memory["shapes"]))
    return markdown(headings, [("MiB of the process", *map(str, record.memory["mib"]))])


def _masked(record: Record) -> str:
    rows = [(name, *(f"{peak:.0f}" for peak in peaks)) for name, peaks in record.masked.items()]
    table = markdown(("first call", "MiB at the peak, forward", "with gradients"), rows)
    return (
        f"Class indices with scores `{[*SCORES]}` of float32 (1000 MiB), classes last, and a mask "
        f"`{[*SCORES[:2]]}`; beyond what the inputs take, each in a process of its own.\n\n{table}"
    )
