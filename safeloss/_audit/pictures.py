"""An audit to look at: in a terminal, on a page, and as a picture."""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._audit.verdicts import UNDECIDED

if TYPE_CHECKING:
    from safeloss._audit import Audit

MISSING = 'A .png needs matplotlib: pip install "safeloss[demo]". A .html needs nothing.'
_WIDTH = 88
_MOST_CELLS = 16  # of the matrix in a terminal, a side
_SHADES = ((0.5, "#"), (0.1, "+"), (0.0, "-"))  # for more than this share of the largest
_LEVELS = 10  # of shade, on a page
# To be seen on white and on black.
HUES = {"bug": "#e03131", "coupled": "#e8890c", "none": "#868e96", "healthy": "#2f9e44"}
_REFERENCE = "#4c8df5"  # what a loss would do that mixes nothing
STYLE = f"""
.safeloss-audit {{ font: 15px/1.5 system-ui, sans-serif; max-width: 64em; margin: 0 auto }}
.safeloss-audit h1 {{ font-size: 1.35em; line-height: 1.3; margin: .5em 0 }}
.safeloss-audit h1 span {{ color: var(--hue); white-space: nowrap }}
.safeloss-audit .verdict {{ border-left: .3em solid var(--hue); padding-left: .8em }}
.safeloss-audit dl {{ display: grid; grid-template-columns: auto 1fr; gap: 0 1.5em }}
.safeloss-audit dt {{ opacity: .7 }}
.safeloss-audit dd {{ margin: 0; font-family: ui-monospace, monospace }}
.safeloss-audit .figures {{ display: grid; gap: 1.5em;
  grid-template-columns: repeat(auto-fit, minmax(13em, 1fr)) }}
.safeloss-audit figure {{ margin: 0; display: flex; flex-direction: column;
  justify-content: space-between }}
.safeloss-audit figcaption {{ font-size: .9em; margin-bottom: .3em }}
.safeloss-audit svg {{ width: 100%; max-width: 18em; height: auto }}
.safeloss-audit text {{ font-size: 7px; fill: currentColor; text-anchor: middle }}
.safeloss-audit .frame {{ fill: none; stroke: currentColor; stroke-opacity: .4 }}
.safeloss-audit .cells {{ fill: var(--hue) }}
.safeloss-audit .loss {{ fill: none; stroke: var(--hue); stroke-width: 2 }}
.safeloss-audit .healthy {{ fill: none; stroke: {_REFERENCE}; stroke-width: 5;
  stroke-opacity: .5 }}
.safeloss-audit .healthy.cells {{ fill: {_REFERENCE}; stroke: none }}
.safeloss-audit code {{ font-family: ui-monospace, monospace; font-size: .93em;
  background: #8883; border-radius: .2em; padding: .1em .3em; overflow-wrap: anywhere }}
.safeloss-audit .key {{ font-weight: bold }}
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
</head>
<body>
{body}
</body>
</html>
"""

Writer: TypeAlias = "Callable[[Audit, Path], None]"


class Curve(NamedTuple):
    """A quantity against the batch size, and what it is for a loss that mixes nothing."""

    title: str
    sizes: Sequence[int]
    values: Sequence[float]
    healthy: Sequence[float]  # empty if there is nothing to compare with


def curves(report: "Audit") -> tuple[Curve, Curve]:
    """The gradient norm and the loss against the batch size."""
    points = report.curve
    sizes = [p.batch_size for p in points]
    norms = [p.healthy_gradient_norm for p in points if p.healthy_gradient_norm is not None]
    losses = [p.healthy_loss for p in points if p.healthy_loss is not None]
    return (
        Curve("gradient norm", sizes, [p.gradient_norm for p in points], norms),
        Curve("loss", sizes, [p.loss for p in points], losses),
    )


def text(report: "Audit") -> str:
    """The report for a terminal."""
    rows: list[tuple[str, Sequence[float]]] = []
    for title, _, values, healthy in curves(report):
        rows += [(title, values), *([("  if healthy", healthy)] if healthy else [])]
    sizes = "".join(f"{f'B = {p.batch_size}':>10}" for p in report.curve)
    blocks = (
        [f"{report.loss}: {_headline(report)}", *textwrap.wrap(report.verdict, _WIDTH)],
        [f"    {name:<14}{value}" for name, value in facts(report)],
        [_caption(report), *_grid(report.influence)],
        [f"{'':<18}{sizes}", *(_row(title, values) for title, values in rows)] if sizes else [],
        [line for remark in remarks(report) for line in textwrap.wrap(remark, _WIDTH)],
    )
    return "\n\n".join("\n".join(block) for block in blocks if block)


def facts(report: "Audit") -> list[tuple[str, str]]:
    """What was called, and what it does to a batch."""
    shape = report.per_sample_shape
    return [
        *((name, came) for name, came, _ in report.arguments),
        *([("unreduced", f"[{', '.join(map(str, shape))}]")] if shape is not None else []),
        *([("a batch is", f"the {report.reduction} of its samples")] if report.reduction else []),
    ]


def remarks(report: "Audit") -> list[str]:
    """The advice, the fixes and the notes, a line each."""
    advice = [report.advice] if report.advice else []
    return [
        *advice,
        *(f"Fix: {fix}" for fix in report.fixes),
        *(f"Note: {note}" for note in report.notes),
    ]


def fragment(report: "Audit") -> str:
    """The report for a notebook, or the body of a page."""
    listed = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in facts(report))
    figures = [
        ("What this loss does", _heat(report.influence, "")),
        ("What a healthy loss does", _heat(torch.eye(len(report.influence)), "healthy ")),
        *(
            (f"{curve.title.capitalize()} against B", chart(curve))
            for curve in curves(report)
            if curve.sizes
        ),
    ]
    drawn = "".join(
        f"<figure><figcaption>{title}</figcaption>{picture}</figure>\n"
        for title, picture in figures
    )
    keys = [("var(--hue)", "this loss"), (_REFERENCE, "a healthy one")]
    key = ", ".join(f'<span class="key" style="color: {hue}">{what}</span>' for hue, what in keys)
    said = "".join(f"<p>{with_code(remark)}</p>\n" for remark in remarks(report))
    headline = escape(_headline(report))
    return (
        f'<div class="safeloss-audit" style="--hue: {HUES[_mood(report)]}">\n'
        f"<style>{STYLE}</style>\n"
        f"<h1><code>{escape(report.loss)}</code>: <span>{headline}</span></h1>\n"
        f'<p class="verdict">{with_code(report.verdict)}</p>\n<dl>{listed}</dl>\n{said}'
        f"<p>A cell says how far the gradient of input i (row) moves when something of sample j "
        f"(column) changes: a healthy loss has a diagonal. Colours: {key}.</p>\n"
        f'<div class="figures">\n{drawn}</div>\n</div>'
    )


def with_code(text: str) -> str:
    """Prose as HTML, with a fix, and what stands in backticks, as code."""
    fix, colon, code = text.partition("Fix: ")
    if colon and not fix:
        return f"Fix: <code>{escape(code)}</code>"
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text, quote=False))


def _mood(report: "Audit") -> str:
    """Which of the hues is that of the verdict."""
    if report.bug:
        return "bug"
    if report.kind in UNDECIDED:
        return "none"
    return "healthy" if report.independent else "coupled"


def writer(path: Path) -> Writer:
    """What writes a file of this name."""
    if path.suffix not in WRITERS:
        raise ValueError(f"{str(path)!r} ends neither in {' nor in '.join(WRITERS)}")
    return WRITERS[path.suffix]


def _write_page(report: "Audit", path: Path) -> None:
    title = escape(f"{report.loss}: {report.kind}")
    path.write_text(PAGE.format(title=title, body=fragment(report)), encoding="utf-8")


def _write_picture(report: "Audit", path: Path) -> None:
    try:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure  # no pyplot: nothing global, and Agg writes the file
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    figure = Figure(figsize=(13, 4), dpi=120, layout="constrained")
    heat, healthy, *charts = figure.subplots(1, 4)
    hue = HUES[_mood(report)]
    for axes, matrix, title, color in (
        (heat, report.influence, "influence of sample j on gradient i", hue),
        (healthy, torch.eye(len(report.influence)), "if healthy", _REFERENCE),
    ):
        shades = LinearSegmentedColormap.from_list("shades", ["white", color])
        axes.imshow(matrix.tolist(), cmap=shades, vmin=0, vmax=1)
        axes.set(title=title, xlabel="sample j", ylabel="gradient of input i")
    for axes, curve in zip(charts, curves(report)):
        if curve.healthy:  # wide and beneath, to be seen where the two are the same
            beneath = {"color": _REFERENCE, "alpha": 0.5, "linewidth": 6}
            axes.plot(curve.sizes, curve.healthy, label="if healthy", **beneath)
        axes.plot(curve.sizes, curve.values, "o-", color=hue, label=report.loss)
        if curve.sizes:
            axes.set_xscale("log", base=2)
            axes.set_xticks(curve.sizes, [str(size) for size in curve.sizes])
        if _is_positive(curve):
            axes.set_yscale("log")
        axes.set(title=f"{curve.title} against B", xlabel="batch size B")
    handles, labels = charts[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"{report.loss}: {_headline(report)}")
    figure.savefig(path, format="png")


WRITERS: dict[str, Writer] = {".html": _write_page, ".png": _write_picture}


def _headline(report: "Audit") -> str:
    kind = report.kind
    if kind in UNDECIDED:
        return f"no verdict, {kind}"
    if kind == "coupled":
        return "coupled, which may be meant"
    return f"{kind}, a bug" if report.bug else kind


def _caption(report: "Audit") -> str:
    n = len(report.influence)
    return f"Influence of sample j (column) on the gradient of input i (row), B = {n}:"


def _grid(matrix: Tensor) -> list[str]:
    """The matrix in letters, each for the largest of as many cells as it takes."""
    step = math.ceil(len(matrix) / _MOST_CELLS)
    if step > 1:
        matrix = F.max_pool2d(matrix[None], step, ceil_mode=True)[0]
    return ["    " + " ".join(_shade(share) for share in row) for row in matrix.tolist()]


def _shade(share: float) -> str:
    if math.isnan(share):
        return "?"
    return next((letter for least, letter in _SHADES if share > least), ".")


def _row(title: str, values: Iterable[float]) -> str:
    return f"    {title:<14}" + "".join(f"{value:>10.3g}" for value in values)


def _heat(matrix: Tensor, names: str) -> str:
    """The matrix as SVG, one path for each level of shade."""
    n = len(matrix)
    levels: list[list[str]] = [[] for _ in range(_LEVELS + 1)]
    for i, row in enumerate(matrix.nan_to_num(0).tolist()):
        for j, share in enumerate(row):
            levels[math.ceil(share * _LEVELS)].append(f"M{j} {i}h1v1h-1z")
    paths = "".join(
        f'<path fill-opacity="{level / _LEVELS:.2g}" d="{"".join(cells)}"/>'
        for level, cells in enumerate(levels)
        if level and cells
    )
    cells = f'<g class="{names}cells" transform="scale({100 / n:.4f})">{paths}</g>'
    half, last = 50 / n, 100 - 50 / n  # the middle of the first cell, and of the last
    ends = [(half, "1"), (last, str(n))]
    marks = [
        *(_text(place, 108, number) for place, number in ends),
        *(_text(-5, place + 2.5, number) for place, number in ends),
    ]
    return _framed(cells + "".join(marks), "sample j", "gradient of input i")


def chart(curve: Curve) -> str:
    """A curve and its healthy reference as SVG, in a square of 100."""
    across = _scale([float(size) for size in curve.sizes], True)
    values = [*curve.values, *curve.healthy]
    up = _scale(values, _is_positive(curve))

    def line(name: str, heights: Sequence[float]) -> str:
        places = " ".join(
            f"{5 + 90 * across(size):.1f},{95 - 90 * up(height):.1f}"
            for size, height in zip(curve.sizes, heights)
            if math.isfinite(height)
        )
        return f'<polyline class="{name}" points="{places}"/>'

    finite = [value for value in values if math.isfinite(value)] or [0.0]
    marks = [
        *(_text(5 + 90 * across(size), 108, str(size)) for size in curve.sizes),
        *(_text(-9, 97.5 - 90 * up(v), f"{v:.2g}") for v in sorted({min(finite), max(finite)})),
    ]
    lines = line("healthy", curve.healthy) + line("loss", curve.values)
    return _framed(lines + "".join(marks), "batch size B", curve.title)


def _framed(content: str, across: str, up: str) -> str:
    """A square of 100 with names of its axes."""
    return (
        f'<svg viewBox="-30 -4 138 126" role="img" aria-label="{up} against {across}">'
        f'<path class="frame" d="M0 0H100V100H0z"/>{content}{_text(50, 118, across)}'
        f'<text transform="translate(-22 50) rotate(-90)">{up}</text></svg>'
    )


def _text(x: float, y: float, said: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{said}</text>'


def _is_positive(curve: Curve) -> bool:
    """Whether a logarithmic axis can show it."""
    return all(0 < value < math.inf for value in (*curve.values, *curve.healthy))


def _scale(values: Sequence[float], logarithmic: bool) -> Callable[[float], float]:
    """From a value to its place on an axis, between 0 and 1."""
    finite = [value for value in values if math.isfinite(value)] or [1.0]
    level: Callable[[float], float] = math.log if logarithmic else float
    low, high = level(min(finite)), level(max(finite))
    return lambda value: (level(value) - low) / (high - low) if high > low else 0.5
