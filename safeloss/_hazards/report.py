"""The outcomes as text for a terminal, as Markdown and as JSON."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from safeloss._hazards.outcomes import OUTCOMES, Row, Side

NATIVE = ("silent", "warns", "repeats", "raises", "right")
SAFE = ("silent", "warns", "repeats", "raises", "refuses", "normalises", "right")


def summary(rows: Sequence[Row]) -> str:
    """What it all comes to, in one line."""
    native, safe = _counts(rows)
    natively = ", ".join(f"{name} {native[name]}" for name in NATIVE[1:] if native[name])
    safely = ", ".join(f"{name} {safe[name]}" for name in SAFE[1:] if safe[name])
    return (
        f"Silent wrong results: PyTorch {native['silent']}, safeloss {safe['silent']}. "
        f"Of {len(rows)} calls on PyTorch {torch.__version__.partition('+')[0]}: "
        f"PyTorch {natively}; safeloss {safely}; both alike: unseen {safe['unseen']}."
    )


def as_json(rows: Sequence[Row]) -> str:
    """Everything."""
    native, safe = _counts(rows)
    report = {
        "torch": torch.__version__,
        "outcomes": OUTCOMES,
        "summary": {"native": native, "safe": safe},
        "rows": [
            {**row._asdict(), "native": row.native._asdict(), "safe": row.safe._asdict()}
            for row in rows
        ],
    }
    return json.dumps(report, indent=1)


def as_text(rows: Sequence[Row]) -> str:
    """A table for each loss, what the words mean, and the summary."""
    lines = []
    for loss in dict.fromkeys(row.loss for row in rows):
        its = [row for row in rows if row.loss == loss]
        table = [("call", "argument", "right", "PyTorch", "safeloss")]
        table += [
            (row.call, row.about, row.right or "none", _said(row.native), _said(row.safe))
            for row in its
        ]
        lines += [f"{loss}, for nn.{its[0].replaces}", *_columns(table), ""]
    lines += [f"{name:<10}  {meaning}" for name, meaning in OUTCOMES.items()]
    return "\n".join([*lines, "", summary(rows)])


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of counts, and for every call the losses by what becomes of it."""
    parts = [summary(rows), "### By loss", _overview(rows)]
    sections = dict.fromkeys(row.section for row in rows)
    for section in sorted(sections, key=("Weights", "Numbers").__contains__):
        parts += [f"### {section}", _by_call([row for row in rows if row.section == section])]
    return "\n\n".join(parts)


def _counts(rows: Iterable[Row]) -> tuple[Counter[str], Counter[str]]:
    """How often each outcome was PyTorch's, and how often safeloss's."""
    rows = list(rows)
    return Counter(row.native.outcome for row in rows), Counter(row.safe.outcome for row in rows)


def _said(side: Side) -> str:
    number = side.outcome not in ("right", "normalises")
    return f"{side.outcome} {side.gave}" if number else side.outcome


def _columns(table: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip()
        for row in table
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    lines = ["".join(f"| {cell} " if cell else "| " for cell in line) for line in cells]
    return "\n".join(f"{line}|" for line in lines)


def _overview(rows: Sequence[Row]) -> str:
    """How often each outcome is a loss's."""
    native, safe = _counts(rows)
    natively = [name for name in NATIVE if native[name]]
    safely = [name for name in SAFE if safe[name] or name == "silent"]
    table = []
    for loss in dict.fromkeys(row.loss for row in rows):
        native, safe = _counts(row for row in rows if row.loss == loss)
        counts = [*(native[name] for name in natively), *(safe[name] for name in safely)]
        table.append([f"`{loss}`", *map(str, counts), str(safe["unseen"])])
    header = [*(f"PyTorch {name}" for name in natively), *(f"safeloss {name}" for name in safely)]
    return _table(["loss", *header, "unseen"], table)


def _by_call(rows: Sequence[Row]) -> str:
    """The losses by what becomes of a call."""
    seen = [name for name in (*NATIVE, "unseen") if any(r.native.outcome == name for r in rows)]
    table = []
    for call in dict.fromkeys(row.call for row in rows):
        its = [row for row in rows if row.call == call]
        natively = _losses([(row, row.native) for row in its])
        safely = _losses([(row, row.safe) for row in its])
        most, *others = sorted(safely, key=lambda name: -len(safely[name]))
        differ = [f"{name}: {', '.join(safely[name])}" for name in others]
        cells = [", ".join(natively.get(name, ())) for name in seen]
        table.append([_marked(call), *cells, "; ".join([most, *differ])])
    return _table(["call", *seen, "safeloss"], table)


def _losses(sides: Sequence[tuple[Row, Side]]) -> dict[str, list[str]]:
    """The losses by outcome, with the arguments where these differ."""
    found: dict[str, list[str]] = {}
    for loss in dict.fromkeys(row.loss for row, _ in sides):
        its = [(row, side) for row, side in sides if row.loss == loss]
        for outcome in dict.fromkeys(side.outcome for _, side in its):
            about = [row.about for row, side in its if side.outcome == outcome]
            which = "" if len(about) == len(its) else f" ({', '.join(about)})"
            found.setdefault(outcome, []).append(f"`{loss.removeprefix('Safe')}`{which}")
    return found


def _marked(call: str) -> str:
    return re.sub(r"\[.*?\]|\w+( == \w+)+", r"`\g<0>`", call)
