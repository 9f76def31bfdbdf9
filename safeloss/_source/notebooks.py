"""Notebooks as Python reads them: the sources of their code cells, and where they stand."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

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


def cells_of(text: str) -> list[Cell]:
    """The code cells of a notebook.

    Raises:
        Skipped: if it is no notebook.
    """
    try:
        return [_cell(text, start, end) for start, end in _sources(text)]
    except (ValueError, KeyError, TypeError, IndexError):
        raise Skipped("is no notebook") from None
    except RecursionError:
        raise Skipped("nests too deeply to parse") from None


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


def _sources(text: str) -> Iterator[tuple[int, int]]:
    """Where the sources of the code cells stand."""
    top = {key: start for key, start, _ in members(text, _skip(text, 0))}
    if text[top["cells"]] != "[":
        raise ValueError("cells are a list")
    for _, start, end in members(text, top["cells"]):
        cell = json.loads(text[start:end])
        if cell["cell_type"] == "code":
            places = {key: (first, last) for key, first, last in members(text, start)}
            yield places["source"]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match
    return match.end()


def members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
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
