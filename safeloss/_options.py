"""The options that losses share, with their choices."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Reduction: TypeAlias = Literal["none", "mean", "sum"]
ClassDim: TypeAlias = Literal[1, -1] | None  # the axis of the classes, at rank 3 and more
CheckValues: TypeAlias = Literal["first", "never", "always"]
# What the mean over zero elements gives: PyTorch's result, with a warning or without one ("nan"), a
# zero that is connected to the graph, or an error.
Empty: TypeAlias = Literal["warn", "zero", "nan", "raise"]
EmptyWithoutZero: TypeAlias = Literal["warn", "nan", "raise"]  # of a loss with two outputs


def ignored_index(options: Mapping[str, Any]) -> int | None:
    """The class index that does not count, if a loss has one; where it is None, torch's -100."""
    if "ignore_index" not in options:
        return None
    return -100 if options["ignore_index"] is None else options["ignore_index"]
