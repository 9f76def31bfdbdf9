"""The options that losses share, with their choices."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Reduction: TypeAlias = Literal["none", "mean", "sum"]
ClassDim: TypeAlias = Literal[1, -1] | None  # the axis of the classes, at rank 3 and more
CheckValues: TypeAlias = Literal["never", "always"]  # of functions
ModuleCheckValues: TypeAlias = Literal["first", "never", "always"]
Empty: TypeAlias = Literal["raise", "zero", "nan"]  # what a mean over nothing is
UndefinedEmpty: TypeAlias = Literal["raise", "nan"]  # where a zero has no meaning
DefinedEmpty: TypeAlias = Literal["raise", "zero"]  # where native gives what memory holds


def ignored_index(options: Mapping[str, Any]) -> int | None:
    """The class index that does not count, if a loss has one; where it is None, torch's -100."""
    if "ignore_index" not in options:
        return None
    return -100 if options["ignore_index"] is None else options["ignore_index"]
