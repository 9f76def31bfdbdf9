"""Rows as text, for the terminal and for the docs."""

from collections.abc import Iterator, Sequence

from benchmarks.record import Record, Row, Spread

# "fastest" is the difference of the fastest rounds, which a busy machine disturbs least.
HEADINGS = (
    *("loss", "pass", "way", "elements", "threads"),
    *("PyTorch us", "us", "ratio", "added us", "fastest"),
)
SECTIONS = {
    "eager": "Modules, eager",
    "function": "Functions, eager: the safe one, and jaxtyped(typechecker=beartype) on PyTorch's",
    "fresh": "Modules that are built anew for every call, construction included",
    "elsewhere": "Modules, beside those of other libraries",
    "sample_weight": "A weight for each number of the loss, beside the same by hand",
    "mask": "A mask, beside the same by hand",
    "denominator": "A denominator, beside the same by hand",
    "sample_weight, compiled": "A weight, compiled, beside the same by hand",
    "mask, compiled": "A mask, compiled, beside the same by hand",
    "denominator, compiled": "A denominator, compiled, beside the same by hand",
    "own": "Losses that PyTorch lacks, beside the one after the slash",
    "own, compiled": "The same, compiled (inductor)",
    "values": "Modules that read values",
    "cold": "A loss's first call, one of another length, and one that was seen",
    "compiled": "Modules, compiled (inductor)",
    "cold, compiler loaded": "The same, after something was compiled",
}


def sections(record: Record) -> Iterator[tuple[str, list[Row]]]:
    """The title and rows of every section that was measured."""
    for section, title in SECTIONS.items():
        rows = [row for row in record.rows if row.section == section]
        if rows:
            yield title, rows


def cells_of(row: Row) -> tuple[str, ...]:
    """`row` under the HEADINGS."""
    elements = f"{row.elements:,}" if row.elements else "varying"
    known = (row.loss, pass_of(row), row.arm or "-", elements, str(row.threads))
    if row.error or not (row.native_us and row.us and row.ratio and row.overhead_us):
        return (*known, "-", "-", "failed", row.error[:60], "-")
    return (
        *known,
        f"{row.native_us.median:.2f}",
        f"{row.us.median:.2f}",
        between(row.ratio, 3),
        between(row.overhead_us, 2, signed=True),
        f"{row.least_us:+.2f}",
    )


def pass_of(row: Row) -> str:
    return "fwd+bwd" if row.backward else "forward"


def between(spread: Spread, digits: int, signed: bool = False) -> str:
    """The median and its quartiles."""
    sign = "+" if signed else ""
    low, median, high = [f"{value:{sign}.{digits}f}" for value in spread]
    return f"{median} [{low}, {high}]"


def by_size(rows: Sequence[Row]) -> str:
    """Ratios, a column for each number of elements, and what the fewest cost more."""
    sizes = sorted({row.elements for row in rows})
    lines: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rows:
        lines.setdefault((row.loss, pass_of(row), row.arm or "-"), {})[row.elements] = row
    headings = (*("loss", "pass", "way"), *(f"{size:,}" for size in sizes), "us added at first")
    cells = [
        (*key, *(_ratio(line.get(size)) for size in sizes), _added(line[min(line)]))
        for key, line in lines.items()
    ]
    return markdown(headings, cells)


def _added(row: Row) -> str:
    return "failed" if row.overhead_us is None else f"{row.overhead_us.median:+.1f}"


def _ratio(row: Row | None) -> str:
    if row is None:
        return "-"
    return "failed" if row.ratio is None else f"{row.ratio.median:.3f}"


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---" if position < 3 else "--:" for position in range(len(headings))]
    return "\n".join([f"| {' | '.join(line)} |" for line in (headings, rule, *lines)])
