"""The plots of the docs: what a call costs more, and how that vanishes with size."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.record import Record, Row

LINES = ("-", "--", ":")  # one for every ten colours


def added_at_one(record: Record, path: Path) -> None:
    """Microseconds added to a forward call of the smallest size, with quartiles."""
    rows = [
        row
        for row in record.rows
        if (row.section, row.threads, row.backward) == ("eager", 1, False) and row.ratio
    ]
    smallest = min([row.elements for row in rows], default=0)
    rows = [row for row in rows if row.elements == smallest]
    losses, ways = _kept([row.loss for row in rows]), _kept([row.arm for row in rows])
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(losses)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / max(1, len(ways))
    for turn, way in enumerate(ways):
        drawn = [row for row in rows if row.arm == way and row.overhead_us]
        spreads = [row.overhead_us for row in drawn if row.overhead_us]
        axes.barh(
            [losses.index(row.loss) + (turn - (len(ways) - 1) / 2) * height for row in drawn],
            [spread.median for spread in spreads],
            height,
            xerr=[
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ],
            label=way,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(losses)), losses)
    axes.invert_yaxis()
    axes.set_xlabel("added to PyTorch, us (median and quartiles)")
    axes.set_title(f"One forward call, {smallest} element{'s' if smallest > 1 else ''}")
    axes.legend()
    figure.savefig(path, dpi=120)


def ratio_by_size(rows: Sequence[Row], where: str, path: Path) -> None:
    """The ratio to PyTorch on aligned inputs against the number of elements, measured `where`."""
    rows = [row for row in rows if row.section == "eager" and row.arm == "aligned" and row.ratio]
    losses = _kept([row.loss for row in rows])
    figure = Figure(figsize=(11, 4 + 0.1 * len(losses)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, backward in zip(panels, (False, True)):
        for number, loss in enumerate(losses):
            line = [row for row in rows if row.loss == loss and row.backward == backward]
            axes.plot(
                [row.elements for row in line],
                [row.ratio.median for row in line if row.ratio],
                LINES[number // 10 % len(LINES)],
                color=f"C{number % 10}",
                marker="o",
                markersize=3,
                label=loss,
            )
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("elements")
        axes.set_title("forward and backward" if backward else "forward")
    panels[0].set_ylabel(f"ratio to PyTorch (median), aligned inputs, {where}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=120)


def _kept(names: list[str]) -> list[str]:
    """Each name once, in the order of the table."""
    return list(dict.fromkeys(names))
