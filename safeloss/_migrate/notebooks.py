"""Notebooks: the cells are one program, and of the JSON only their lines are written anew."""

import json
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from safeloss._migrate.imports import Edit, apply
from safeloss._migrate.rewrite import Rewritten, rewrite
from safeloss._source.files import Skipped, lines, parse

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_MAGIC = re.compile(r"^[ \t]*[%!?].*$|^[^#\n]*\?[ \t]*$|(?<==)[ \t]*[%!].*$", re.MULTILINE)


class Cell(NamedTuple):
    """The source of a code cell, and where it stands in the JSON."""

    start: int
    end: int
    source: str
    masked: str  # of the same length, without what only IPython reads


def notebook(text: str) -> Rewritten:
    """A notebook with safe losses in its code cells; lines are counted through all of them.

    Raises:
        Skipped: if it is no notebook.
    """
    try:
        cells = [_cell(text, start, end) for start, end in _sources(text)]
    except (ValueError, KeyError, TypeError, IndexError):
        raise Skipped("is no notebook") from None
    except RecursionError:
        raise Skipped("nests too deeply to parse") from None
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


def _cell(text: str, start: int, end: int) -> Cell:
    value = json.loads(text[start:end])
    source = value if isinstance(value, str) else "".join(value)
    return Cell(start, end, source, _masked(source))


def _masked(source: str) -> str:
    """What Python reads of a cell: magics become comments, and what still is no Python does too."""
    if not source.lstrip().startswith("%%"):
        for text in (source, _MAGIC.sub(_hidden, source)):
            try:
                parse(text)
            except Skipped:
                continue
            return text
    return "".join(f"#{line[1:]}" if line.strip() else line for line in lines(source))


def _hidden(match: re.Match[str]) -> str:
    """A statement of the same length."""
    text = match[0]
    indent = text[: len(text) - len(text.lstrip())]
    rest = len(text) - len(indent)
    return indent + ("0" + " " * (rest - 1) if rest < 4 else "None" + " " * (rest - 4))


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
    items = [raw[start:end] for _, start, end in _members(raw, 0)]
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


def _sources(text: str) -> Iterator[tuple[int, int]]:
    """Where the sources of the code cells stand."""
    top = {key: start for key, start, _ in _members(text, _skip(text, 0))}
    if text[top["cells"]] != "[":
        raise ValueError("cells are a list")
    for _, start, end in _members(text, top["cells"]):
        cell = json.loads(text[start:end])
        if cell["cell_type"] == "code":
            places = {key: (first, last) for key, first, last in _members(text, start)}
            yield places["source"]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match
    return match.end()


def _members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """The key and the span of every member of the JSON object or list that begins here."""
    is_object = text[at] == "{"
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        key = ""
        if is_object:
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # the colon
        _, end = _DECODER.raw_decode(text, at)
        yield key, at, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
