"""An audit to look at: in a terminal, on a page, and as a picture."""

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from safeloss._audit import Audit

MISSING = 'A .png needs matplotlib: pip install "safeloss[demo]". A .html needs nothing.'
_WIDTH = 88
_MOST_CELLS = 16  # of the matrix in a terminal, a side
_SHADES = ((0.5, "#"), (0.1, "+"), (0.0, "-"))  # for more than this share of the largest
_LEVELS = 10  # of shade, on a page
_HUE = "#e8590c"  # to be seen on white and on black
_STYLE = f"""
.safeloss-audit {{ font: 14px/1.5 system-ui, sans-serif; max-width: 60em }}
.safeloss-audit h1 {{ font-size: 1.25em }}
.safeloss-audit figure {{ display: inline-block; width: 14em; margin: 1em 1em 0 0 }}
.safeloss-audit figure {{ vertical-align: bottom }}
.safeloss-audit svg {{ width: 13em; height: 13em; overflow: visible }}
.safeloss-audit text {{ font-size: 8px; fill: currentColor }}
.safeloss-audit .frame {{ fill: none; stroke: currentColor; stroke-opacity: .4 }}
.safeloss-audit .cells {{ fill: {_HUE} }}
.safeloss-audit .loss {{ fill: none; stroke: {_HUE}; stroke-width: 2 }}
.safeloss-audit .healthy {{ fill: none; stroke: currentColor; stroke-dasharray: 4 3 }}
.safeloss-audit dt {{ float: left; clear: left; width: 9em; opacity: .7 }}
"""
_PAGE = """<!DOCTYPE html>
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
    n = len(report.influence)
    healthy = torch.eye(n)
    listed = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in facts(report))
    figures = [
        (_caption(report), _heat(report.influence)),
        ("if healthy", _heat(healthy)),
        *(
            (f"{curve.title} against B{', dashed if healthy' * bool(curve.healthy)}", _chart(curve))
            for curve in curves(report)
            if curve.sizes
        ),
    ]
    drawn = "".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{picture}</figure>\n"
        for title, picture in figures
    )
    said = "".join(f"<p>{escape(remark)}</p>\n" for remark in remarks(report))
    return (
        f'<div class="safeloss-audit">\n<style>{_STYLE}</style>\n'
        f"<h1>{escape(f'{report.loss}: {_headline(report)}')}</h1>\n"
        f"<p>{escape(report.verdict)}</p>\n<dl>{listed}</dl>\n{drawn}{said}</div>"
    )


def writer(path: Path) -> Writer:
    """What writes a file of this name."""
    if path.suffix not in WRITERS:
        raise ValueError(f"{str(path)!r} ends neither in {' nor in '.join(WRITERS)}")
    return WRITERS[path.suffix]


def _write_page(report: "Audit", path: Path) -> None:
    title = escape(f"{report.loss}: {report.kind}")
    path.write_text(_PAGE.format(title=title, body=fragment(report)), encoding="utf-8")


def _write_picture(report: "Audit", path: Path) -> None:
    try:
        from matplotlib.figure import Figure  # no pyplot: nothing global, and Agg writes the file
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING) from error
    figure = Figure(figsize=(13, 4), dpi=120, layout="constrained")
    heat, healthy, *charts = figure.subplots(1, 4)
    for axes, matrix, title in (
        (heat, report.influence, "influence of sample j on gradient i"),
        (healthy, torch.eye(len(report.influence)), "if healthy"),
    ):
        axes.imshow(matrix.tolist(), cmap="Oranges", vmin=0, vmax=1)
        axes.set(title=title, xlabel="sample j", ylabel="gradient of input i")
    for axes, curve in zip(charts, curves(report)):
        axes.plot(curve.sizes, curve.values, "o-", color=_HUE, label=report.loss)
        if curve.healthy:
            axes.plot(curve.sizes, curve.healthy, "k--", label="if healthy")
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


def _heat(matrix: Tensor) -> str:
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
    frame = f'<path class="frame" vector-effect="non-scaling-stroke" d="M0 0H{n}V{n}H0z"/>'
    return f'<svg viewBox="0 0 {n} {n}"><g class="cells">{paths}</g>{frame}</svg>'


def _chart(curve: Curve) -> str:
    """A curve and its healthy reference as SVG, in a square of 100."""
    across = _scale([float(size) for size in curve.sizes], True)
    values = [*curve.values, *curve.healthy]
    up = _scale(values, _is_positive(curve))

    def line(name: str, heights: Sequence[float]) -> str:
        places = " ".join(
            f"{100 * across(size):.1f},{100 - 100 * up(height):.1f}"
            for size, height in zip(curve.sizes, heights)
            if math.isfinite(height)
        )
        return f'<polyline class="{name}" points="{places}"/>'

    finite = [value for value in values if math.isfinite(value)] or [0.0]
    marks = [
        *(f'<text x="{100 * across(b):.1f}" y="112" text-anchor="middle">{b}</text>'
          for b in curve.sizes),
        *(f'<text x="-4" y="{103 - 100 * up(v):.1f}" text-anchor="end">{v:.2g}</text>'
          for v in sorted({min(finite), max(finite)})),
    ]  # fmt: skip
    lines = line("healthy", curve.healthy) + line("loss", curve.values)
    return (
        '<svg viewBox="-28 -8 136 124"><path class="frame" d="M0 0H100V100H0z"/>'
        f"{lines}{''.join(marks)}</svg>"
    )


def _is_positive(curve: Curve) -> bool:
    """Whether a logarithmic axis can show it."""
    return all(0 < value < math.inf for value in (*curve.values, *curve.healthy))


def _scale(values: Sequence[float], logarithmic: bool) -> Callable[[float], float]:
    """From a value to its place on an axis, between 0 and 1."""
    finite = [value for value in values if math.isfinite(value)] or [1.0]
    level: Callable[[float], float] = math.log if logarithmic else float
    low, high = level(min(finite)), level(max(finite))
    return lambda value: (level(value) - low) / (high - low) if high > low else 0.5
