"""The options that losses share, with their choices."""

from collections.abc import Iterable, Mapping
from inspect import cleandoc
from operator import index
from textwrap import indent
from typing import Any, Literal, TypeAlias

from safeloss._contract.model import Parameter

Reduction: TypeAlias = Literal["none", "mean", "sum"]
ClassDim: TypeAlias = Literal[1, -1] | None  # the axis of the classes, at rank 3 and more
CheckValues: TypeAlias = Literal["first", "never", "always"]
# What the mean over zero elements gives: PyTorch's result, with a warning or without one ("nan"), a
# zero that is connected to the graph, or an error.
Empty: TypeAlias = Literal["warn", "zero", "nan", "raise"]
EmptyWithoutZero: TypeAlias = Literal["warn", "nan", "raise"]  # of a loss with two outputs


# The options that are not torch's.
OURS = ("class_dim", "num_classes", "in_features", "check_values", "empty")
PLAIN_MEANS = ("mean", "elementwise_mean")  # the last is an old name, and legal
MEANS = (*PLAIN_MEANS, "batchmean")
# What is not torch's either, and given at the call: a module does not keep it.
AT_CALL = ("sample_weight", "mask", "denominator")
SIZED = (("classes", "num_classes"), ("features", "in_features"))  # axes whose size one may say


# What they mean, for docstrings.
_MEANINGS = {
    "num_classes": "The number of classes; any other is refused.",
    "class_dim": """\
The axis of the classes in inputs of three axes and more: 1, as in PyTorch, or -1.
Where it is None, a call that could be read both ways is refused.""",
    "check_values": """\
When the numbers are checked: at the "first" call, "always", or "never". A check reads the
tensors, which waits for a GPU. A function has a first call on each line that calls it.""",
    "empty": """\
The mean over zero elements: PyTorch's NaN, with a warning ("warn") or without ("nan"), a
zero that is connected to the graph ("zero"), or an error ("raise").""",
    "sample_weight": """\
One weight for each sample, or for each element of the unreduced loss (`reduction="none"`).
A mean is divided by the total weight of what counts.""",
    "mask": """\
True where a sample, or an element of the unreduced loss, counts. The others add nothing to a
sum, nor to what a mean is divided by, and their targets are not read.""",
    "denominator": """\
The number that a mean is divided by, instead of what counts in this batch: for example that
of the tokens in all micro-batches.""",
}


def documented(doc: str | None, names: Iterable[str], weighted: bool = True) -> str | None:
    """The docstring `doc` with what the arguments of these `names` mean, before what is raised.

    A loss that is not `weighted` has the parameters of weights to refuse them by name.
    """
    if doc is None:  # `python -OO` leaves no docstrings
        return None
    parts, raised = cleandoc(doc).partition("\n\nRaises:")[::2]
    for heading, ours in (
        ("Options that PyTorch does not have", OURS),
        ("Given with the inputs, by keyword", AT_CALL if weighted else ()),
    ):
        listed = [name for name in names if name in ours and name in _MEANINGS]
        rows = [f"{name}:\n{indent(_MEANINGS[name], '    ')}" for name in listed]
        if rows:
            parts += "\n\n" + "\n".join([f"{heading}:", *[indent(row, "    ") for row in rows]])
    return f"{parts}\n\nRaises:{raised}" if raised else parts


def ignored_index(options: Mapping[str, Any]) -> int | None:
    """The class index that does not count, if a loss has one; where it is None, torch's -100."""
    return ignored(options["ignore_index"]) if "ignore_index" in options else None


def ignored(ignore_index: int | None) -> int:
    """The class index that does not count; where it is None, torch's -100."""
    return -100 if ignore_index is None else ignore_index


def option_error_text(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> str:
    """What to say of the first option that is none of its choices, or no integer."""
    for parameter in parameters:
        name = parameter.name
        if parameter.choices:
            value = values[name]
            if name == "reduction" and value == "elementwise_mean":
                continue  # the old name of "mean", which PyTorch still takes
            # True and 1.0 equal 1, and are not meant by it.
            listed = any([value == choice for choice in parameter.choices])
            if not listed or kind_of(value) in ("bool", "float"):
                known = ", ".join([repr(choice) for choice in parameter.choices])
                return f"{name} must be one of {known}; it is {value!r}."
        elif parameter.integer:
            value = values[name]
            if parameter.optional and value is None:
                continue
            if not _is_integer(value):
                return f"{name} must be an integer; it is {value!r}."
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                return f"{name} must fit into 64 bits, as class indices do; it is {value!r}."
            counts = name in dict(SIZED).values()
            if counts and (kind_of(value) == "bool" or value < 1):
                return f"{name} must be 1 or more; it is {value!r}."
    return ""


def kind_of(value: Any) -> str:
    """The name of the type of an option, also inside a compiler, where a stand-in has it."""
    return str(getattr(value, "kind", type(value).__name__))


def _is_integer(value: Any) -> bool:
    if kind_of(value) in ("int", "bool"):
        return True
    try:
        index(value)
    except TypeError:
        return False
    return True
