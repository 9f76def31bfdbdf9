"""One line of the report, and what a check is: a function that yields lines."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from safeloss._check.evidence import Evidence

Status: TypeAlias = Literal["pass", "warn", "fail"]
MOST_NAMES = 4


class Line(NamedTuple):
    """One check: what was seen, what was expected, and what to do."""

    code: str  # `safeloss explain SL401` explains it
    status: Status
    title: str
    seen: str
    expected: str = ""
    advice: str = ""


Check: TypeAlias = Callable[[Evidence], Iterator[Line]]


def listed_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
