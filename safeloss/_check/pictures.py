"""A report to look at: in a terminal and on a page."""

import textwrap
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from safeloss._audit.pictures import HUES, PAGE, STYLE, Curve, chart, with_code
from safeloss._audit.pictures import fragment as audit_fragment
from safeloss._check.line import Line, Status

if TYPE_CHECKING:
    from safeloss._check import Check

_WIDTH = 100
_INDENT = 15  # of what stands below a title
_COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red"}
_PAGE_COLOURS = {"pass": HUES["healthy"], "warn": HUES["coupled"], "fail": HUES["bug"]}
_TABLE = """
.safeloss-check { font: 15px/1.5 system-ui, sans-serif; max-width: 64em; margin: 0 auto }
.safeloss-check table { border-collapse: collapse; width: 100% }
.safeloss-check td { vertical-align: top; padding: .3em .6em; border-top: 1px solid #8885 }
.safeloss-check td:first-child { font-weight: bold }
.safeloss-check p { margin: 0 }
.safeloss-check code { font-family: ui-monospace, monospace; font-size: .93em;
  background: #8883; border-radius: .2em; padding: .1em .3em; overflow-wrap: anywhere }
"""


def headline(report: "Check") -> str:
    """How many lines have each status."""
    count = Counter(line.status for line in report.lines)
    order: tuple[Status, ...] = ("fail", "warn", "pass")
    told = [f"{count[status]} {status}" for status in order if count[status]]
    return f"safeloss.check of {report.model}: {', '.join(told)}"


def text(report: "Check") -> str:
    """The report for a terminal."""
    return "\n".join(part for part, _ in _parts(report))


def coloured(report: "Check") -> Any:
    """The same with colours, for `rich`."""
    from rich.text import Text

    whole = Text()
    for part, colour in _parts(report):
        whole.append(f"{part}\n", style=colour or None)
    return whole


def _parts(report: "Check") -> Iterator[tuple[str, str]]:
    """The lines of the text, each with its colour."""
    yield headline(report), "bold"
    yield "", ""
    for line in report.lines:
        yield from _told(line)
    yield "", ""
    for note in report.notes:
        yield "\n".join(textwrap.wrap(f"Note: {note}", _WIDTH)), "dim"


def _told(line: Line) -> Iterator[tuple[str, str]]:
    """A line that passes in one row, another one with all that it says."""
    first = f"{line.status}  {line.code}  {line.title}"
    if line.status == "pass":
        beside = f" ({line.expected})" if line.expected else ""
        yield _wrapped(f"{first}: {line.seen}{beside}", "", _INDENT), _COLOURS[line.status]
        return
    yield first, _COLOURS[line.status]
    for name, said in (("seen", line.seen), ("expected", line.expected), ("do", line.advice)):
        if said:
            yield _wrapped(said, f"{'':<{_INDENT}}{name:<10}", _INDENT + 10), ""


def _wrapped(said: str, before: str, indent: int) -> str:
    whole = textwrap.wrap(
        said,
        _WIDTH,
        initial_indent=before,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(whole)


def fragment(report: "Check") -> str:
    """The report for a notebook, or the body of a page."""
    rows = "".join(_row(line) for line in report.lines)
    notes = "".join(f"<p>{with_code(note)}</p>\n" for note in report.notes)
    body = (
        f'<div class="safeloss-check">\n<style>{_TABLE}</style>\n'
        f"<h1>{escape(headline(report))}</h1>\n<table>\n{rows}</table>\n{notes}</div>\n"
    )
    return body + _charts(report)


def _row(line: Line) -> str:
    colour = _PAGE_COLOURS[line.status]
    said = [f"<p>{with_code(line.seen)}</p>"]
    if line.status != "pass":
        expected = [f"<p>Expected: {with_code(line.expected)}</p>"] if line.expected else []
        said += [*expected, f"<p>{with_code(line.advice)}</p>"]
    return (
        f'<tr><td style="color: {colour}">{line.status}</td><td>{line.code}</td>'
        f"<td>{escape(line.title)}</td><td>{''.join(said)}</td></tr>\n"
    )


def _charts(report: "Check") -> str:
    """The gradient norm against the batch size, and the audit of the loss."""
    drawn = ""
    if len(report.norms) > 1:
        sizes = [point.batch_size for point in report.norms]
        values = [point.gradient_norm for point in report.norms]
        healthy = [point.healthy_gradient_norm for point in report.norms]
        curve = Curve("gradient norm", sizes, values, healthy)
        failed = any(line.status == "fail" for line in report.lines)
        hue = HUES["bug" if failed else "healthy"]
        drawn = (
            f'<div class="safeloss-audit" style="--hue: {hue}">\n<style>{STYLE}</style>\n'
            "<p>Gradient norm of all parameters against the batch size: of this program (thin), "
            f"and of the mean of independent samples (wide).</p>\n{chart(curve)}\n</div>\n"
        )
    if report.audit is not None:
        drawn += audit_fragment(report.audit)
    return drawn


def page(report: "Check") -> str:
    """The report as one self-contained page."""
    return PAGE.format(title=escape(headline(report)), body=fragment(report))
