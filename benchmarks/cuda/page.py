"""The page of the docs on CUDA, made of a record for each card; a rehearsal is refused."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.cuda.record import FILES, CudaRecord, load
from benchmarks.record import Row
from benchmarks.tables import by_size, markdown, pass_of
from benchmarks.timing import NATIVE
from benchmarks.weights import FORMS

PAGE = "benchmarks-cuda.md"
COMMAND = "python -m benchmarks --only cuda --output docs/benchmarks-cuda.json"
WHY = (
    "The argument is that equal operations on equal inputs launch equal kernels: safe losses "
    "dispatch PyTorch's operations, on equal shapes, element types and strides, forward and "
    "backward, which `tests/test_laws.py` holds for every loss, and nothing else decides what a "
    "GPU runs. What is left is the time of the host, which was measured on a CPU (`benchmarks.md`)."
)
TITLES = {
    "eager": "Eager",
    "graph": "Captured in a CUDA graph, and replayed",
    "compiled": "Compiled (inductor)",
    "bfloat16": "bfloat16",
    "autocast": "Autocast, scores of bfloat16",
    "naive": "Functions: the safe one, and jaxtyped(typechecker=beartype) on PyTorch's",
    **{form: f"With `{form}`, beside the same written by hand" for form in FORMS},
}


def records(folder: Path) -> list[CudaRecord]:
    """The records of all cards in `folder`."""
    return [load(path) for path in sorted(folder.glob(FILES))]


def write(folder: Path) -> None:
    """The page of the records in `folder`, and a plot for each card."""
    from benchmarks.plots import ratio_by_size  # needs matplotlib, which nothing else here does

    found = records(folder)
    (folder / PAGE).write_text(page(found))
    for record in found:
        ratio_by_size(record.rows, record.card["name"], folder / plot(record))


def plot(record: CudaRecord) -> str:
    card = "".join([letter if letter.isalnum() else "-" for letter in record.card["name"].lower()])
    return f"benchmarks-cuda-{card}.png"


def page(found: Sequence[CudaRecord]) -> str:
    """The page, which says nothing that is not in a record."""
    _refuse_rehearsals(found)
    parts = [
        "# Benchmarks on CUDA",
        "Written by `python -m benchmarks --only cuda --report docs/`; do not edit.",
    ]
    if not found:
        parts += [_not_measured(), f"Whoever has a card: `{COMMAND}` ([how](maintaining.md))."]
    else:
        parts.append(
            "Times are those of the device, by events, the median of interleaved rounds. Ratios "
            "and differences are taken within each round, then the median of those; below 1 the "
            "safe loss is the faster one. *aligned* inputs have the shapes that PyTorch wants; "
            "*normalised* ones are repaired by a view, and PyTorch gets the repaired ones. The "
            "loss after a `/` is PyTorch's that a safe one of another name is compared with."
        )
    for record in found:
        parts += [f"## {record.card['name']}", f"![Ratio to PyTorch]({plot(record)})"]
        parts += summary(record)
    return "\n\n".join(parts) + "\n"


def in_short(found: Sequence[CudaRecord]) -> list[str]:
    """What `benchmarks.md` says of CUDA."""
    _refuse_rehearsals(found)
    if not found:
        return [_not_measured()]
    cards = [
        f"- {record.card['name']}: {_kernels(record)} {_synchronisations(record)}"
        for record in found
    ]
    return [f"Measured on these cards, with all figures in [{PAGE}]({PAGE}):", "\n".join(cards)]


def summary(record: CudaRecord) -> list[str]:
    """All that `record` says, in paragraphs and tables."""
    parts = [_where(record), _kernels(record), _synchronisations(record), _memory(record)]
    for section, title in TITLES.items():
        rows = _rows(record, section)
        if rows:
            parts += [f"### {title}", "Ratios by number of elements:", by_size(rows)]
    if _rows(record, "host"):
        parts += ["### The host's time of a call", _hiding(record)]
    for title, entries in (("No time was left for", record.left_out), ("Failed", record.failed)):
        if entries:
            parts += [f"### {title}", "\n".join([f"- {entry}" for entry in entries])]
    return parts


def _refuse_rehearsals(found: Sequence[CudaRecord]) -> None:
    if any(record.rehearsal for record in found):
        raise ValueError("A rehearsal measures nothing, so no page is made of it.")


def _not_measured() -> str:
    return f"CUDA was not measured: there is no record of a GPU. {WHY}"


def _where(record: CudaRecord) -> str:
    card, versions = dict(record.card), record.versions
    name = card.pop("name")
    facts = ", ".join([f"{key} {value}" for key, value in card.items()])
    names = ", ".join([f"{key} {number}" for key, number in versions.items()])
    pace = "cut short" if record.left_out else "complete"
    return (
        f"{name} ({facts}), {record.machine['cpu']}, {names}; a run of {record.date[:10]}, "
        f"{record.seconds:.0f} s, {pace}."
    )


def _kernels(record: CudaRecord) -> str:
    """How many losses launch PyTorch's kernels; those whose native one is another loss are told
    apart."""
    if not record.kernels:
        return "Kernels were not compared."
    own = [seen for seen in record.kernels if "/" not in seen["loss"]]
    other = [seen for seen in record.kernels if "/" in seen["loss"]]
    text = f"{_agreeing(own)} launch PyTorch's kernels, by name and in order."
    for seen in other:
        verdict = "the same kernels" if all(seen["same"].values()) else "other kernels"
        text += f" {seen['loss']} ({seen['elements']:,} elements): {verdict}."
    unequal = [f"{seen['loss']} {way}" for seen in own for way, s in seen["same"].items() if not s]
    return text + (f" Not the same: {_listed(unequal)}." if unequal else "")


def _agreeing(seen: Sequence[dict[str, dict[str, bool]]]) -> str:
    verdicts = [same for entry in seen for same in entry["same"].values()]
    return f"{sum(verdicts)} of {len(verdicts)} calls compared (losses, sizes, shapes)"


def _synchronisations(record: CudaRecord) -> str:
    """Synchronisations beyond PyTorch's own."""
    if not record.synchronisations:
        return "Synchronisations were not counted."
    added: dict[str, list[str]] = {"first": [], "never": [], "normalised": []}
    for seen in record.synchronisations:
        first, second = seen["counts"][NATIVE]
        for way, losses in added.items():
            if way in seen["counts"]:
                counts = seen["counts"][way]
                beyond = counts[1] > second or (way != "first" and counts[0] > first)
                if beyond:
                    losses.append(seen["loss"])
    count = len(record.synchronisations)
    first, never, normalised = [_in(losses) for losses in added.values()]
    return (
        "Synchronisations that PyTorch reports, beyond those of its own losses, in "
        f'{count} losses: after the first call {first}; with `check_values="never"`, from the '
        f"first call on, {never}, on normalised inputs {normalised}."
    )


def _in(losses: Sequence[str]) -> str:
    return f"some in {_listed(losses)}" if losses else "none"


def _memory(record: CudaRecord) -> str:
    if not record.memory:
        return "Memory was not measured."
    more = [
        f"{seen['loss']} {way} ({seen['elements']:,} elements, {held - seen['bytes'][NATIVE]:+,})"
        for seen in record.memory
        for way, held in seen["bytes"].items()
        if held > seen["bytes"][NATIVE]
    ]
    beyond = f"more bytes than PyTorch: {_listed(more)}" if more else "no more bytes than PyTorch"
    return f"At their peak, forward and backward hold {beyond} ({len(record.memory)} comparisons)."


def _hiding(record: CudaRecord) -> str:
    """The host's time beside the device's: a shorter one costs nothing in a loop that never
    waits."""
    device = {_key(row): row for row in _rows(record, "device")}
    lines = []
    for row in _rows(record, "host"):
        busy = device.get(_key(row))
        if row.native_us is None or row.us is None:
            continue
        device_us = busy.us.median if busy is not None and busy.us is not None else None
        hides = "-" if device_us is None else ("yes" if row.us.median <= device_us else "no")
        lines.append(
            (
                *(row.loss, pass_of(row), row.arm, f"{row.elements:,}"),
                *(f"{row.native_us.median:.1f}", f"{row.us.median:.1f}"),
                *("-" if device_us is None else f"{device_us:.1f}", hides),
            )
        )
    headings = ("loss", "pass", "way", "elements", "PyTorch us", "us", "device us", "hidden")
    return (
        "Microseconds in which the host hands a call to the device, PyTorch's and the safe loss's, "
        "and those in which the device computes it. A call is *hidden* where the host is not "
        "slower than the device, so that the host's time costs nothing. Losses that read numbers "
        "natively wait for the device, and have no time of their own on it.\n\n"
        + markdown(headings, lines)
    )


def _key(row: Row) -> tuple[str, str, int, bool]:
    return row.loss, row.arm, row.elements, row.backward


def _rows(record: CudaRecord, section: str) -> list[Row]:
    return [row for row in record.rows if row.section == section]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
