"""Notebooks: the cells are one program, and of the JSON only their lines are written anew."""

import json
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import accumulate

from safeloss._migrate.imports import Edit, apply
from safeloss._migrate.rewrite import Rewritten, rewrite
from safeloss._source.files import lines
from safeloss._source.notebooks import Cell, cells_of, members


def notebook(text: str) -> Rewritten:
    """A notebook with safe losses in its code cells; lines are counted through all of them.

    Raises:
        Skipped: if it is no notebook.
    """
    cells = cells_of(text)
    border = _border("".join(cell.masked for cell in cells))
    done = rewrite("".join(f"{cell.masked}\n{border}\n" for cell in cells))
    edits = []
    for cell, new in zip(cells, _apart(done.text, border)):
        if new != cell.masked:
            edits.append(Edit(cell.start, cell.end, _json(text, cell, _unmasked(cell, new))))
    # Lines are those of the code alone.
    ends = list(accumulate(len(list(lines(f"{cell.masked}\n"))) + 1 for cell in cells))
    moved = [site._replace(line=site.line - bisect_left(ends, site.line)) for site in done.sites]
    notes = [(line - bisect_left(ends, line), note) for line, note in done.notes]
    return Rewritten(apply(text, edits), moved, notes)


def _apart(text: str, border: str) -> Iterator[str]:
    """The cells of a program in which a line stands behind each."""
    cell = ""
    for line in lines(text):
        if line == f"{border}\n":
            yield cell.removesuffix("\n")
            cell = ""
        else:
            cell += line


def _border(text: str) -> str:
    number = 0
    while f"# cell {number}" in text:
        number += 1
    return f"# cell {number}"


def _unmasked(cell: Cell, new: str) -> str:
    """The new source, with the lines that were hidden as they were."""
    back: dict[str, deque[str]] = {}
    for was, now in zip(lines(cell.source), lines(cell.masked)):
        back.setdefault(now, deque()).append(was)
    return "".join(back[line].popleft() if back.get(line) else line for line in lines(new))


def _json(text: str, cell: Cell, source: str) -> str:
    """The source as JSON, in the form that the cell had; lines that stayed keep their spelling."""
    raw = text[cell.start : cell.end]
    ascii_only = text.isascii()
    if not raw.startswith("["):
        return json.dumps(source, ensure_ascii=ascii_only)
    items = [raw[start:end] for _, start, end in members(raw, 0)]
    spelled = {json.loads(item): item for item in items}
    first = raw.index(items[0])
    between = (
        raw[first + len(items[0]) : raw.index(items[1], first + len(items[0]))]
        if items[1:]
        else "," + raw[1:first]
    )
    new = [spelled.get(line) or json.dumps(line, ensure_ascii=ascii_only) for line in lines(source)]
    last = raw.rindex(items[-1]) + len(items[-1])
    return raw[:first] + between.join(new) + raw[last:]
