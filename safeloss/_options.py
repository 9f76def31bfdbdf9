"""The options that losses share, with their choices."""

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["none", "mean", "sum"]
ClassDim: TypeAlias = Literal[1, -1] | None  # the axis of the classes, at rank 3 and more
CheckValues: TypeAlias = Literal["never", "always"]  # of functions
ModuleCheckValues: TypeAlias = Literal["first", "never", "always"]
Empty: TypeAlias = Literal["raise", "zero", "nan"]  # what a mean over nothing is
DefinedEmpty: TypeAlias = Literal["raise", "zero"]  # where native gives what memory holds
