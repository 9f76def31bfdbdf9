"""Every refusal, as data first and prose second.

SafeLossError (ValueError)
├── LayoutError              the shapes do not fit together
│   └── AmbiguousLayoutError ... or fit in two ways that differ
├── DTypeError               a dtype that this loss does not take, or that means something else
├── DeviceError              the tensors are on different devices
├── ValueRangeError          the numbers are not what this loss needs
├── ArgumentTypeError        not a tensor at all (also a TypeError)
└── OptionError              an option that is not one of its choices

SuspiciousInputWarning (UserWarning)   legal, and very likely a mistake
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

__all__ = [
    "AmbiguousLayoutError",
    "Argument",
    "ArgumentTypeError",
    "DTypeError",
    "DeviceError",
    "Fix",
    "LayoutError",
    "OptionError",
    "Past",
    "SafeLossError",
    "SuspiciousInputWarning",
    "ValueRangeError",
]


_Error = TypeVar("_Error", bound="SafeLossError")
_CODE = re.compile(r"\[(SL\d+)\]")
_WIDEST = 40  # characters of an expression in the table; a longer one is cut


class Argument(NamedTuple):
    """One argument of a refused call: what came, and what is declared."""

    name: str
    came: str  # "float32 [32, 1]", or the type of what is no tensor
    declared: str  # "floating [*shape]"


class Fix(str):
    """The code that fixes a call, in the names of the parameters, and when it is right.

    `when` is the meaning of the data that it is right for ("labels count from 1"); it is empty
    where there is no doubt.
    """

    when: str

    def __new__(cls, code: str, when: str = "") -> "Fix":
        """The fix `code`, which is right if `when`."""
        fix = super().__new__(cls, code)
        fix.when = when
        return fix

    def __reduce__(self) -> tuple[Any, ...]:
        return Fix, (str(self), self.when)

    @property
    def line(self) -> str:
        """The line of a message that offers it."""
        return f"Fix, if {self.when}: {self}" if self.when else f"Fix: {self}"


class Past(NamedTuple):
    """What made one argument of a refused call what it is, as seen by `safeloss.trace`."""

    name: str
    steps: tuple[Any, ...]  # newest first; each is a line of text, and the same as data


def current_rank() -> int | None:
    """The number of this process among those that train together; None where it is alone."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    return None


class _Coded:
    """What errors and warnings share: a text that begins with a code."""

    args: tuple[Any, ...]

    @property
    def code(self) -> str:
        """The kind of mistake, such as "SL101": `python -m safeloss explain SL101` explains it.

        It is read from the text, since `warnings` and `torch.compile` make what they raise from
        nothing else.
        """
        found = _CODE.search(str(self.args[0])) if self.args else None
        return found[1] if found else ""


class SafeLossError(_Coded, ValueError):
    """A loss refused its inputs; the root of every error of this library.

    `str(error)` is the lesson; the same is there as data: the `loss` that refused, the `rule`
    that was broken, the `arguments` as they came, what PyTorch itself does with them
    (`native`), `advice` in words, and `fixes`: Python expressions over the names of the
    arguments, each with the meaning of the data that it is right for (`fix.when`). A fix either
    edits the argument that it names first (`target.float()`), or is the whole call
    (`SafeCrossEntropyLoss()(input, target)`). `rank` is that of the process, where several train
    together. Inside `safeloss.trace`, `history` says which operations made the arguments what
    they are.

    The text says it in the names of the code that called (since Python 3.11): `expressions` are
    what stands there for each argument, and `calls` are the call itself with each fix applied.
    """

    # Attributes rather than an `__init__`: under `torch.compile` an exception is made from one
    # string, and one whose `__init__` calls `super()` loses it there.
    loss: str = ""
    rule: str = ""
    arguments: tuple[Argument, ...] = ()
    native: str = ""
    advice: str = ""
    fixes: tuple[Fix, ...] = ()
    rank: int | None = None
    history: tuple[Past, ...] = ()
    expressions: Mapping[str, str] = MappingProxyType({})  # by argument
    calls: Mapping[str, str] = MappingProxyType({})  # by fix; of those that belong in the call
    called_by: str = ""  # the library that called the loss, and the line that called the library

    @classmethod
    def about(cls: type[_Error], loss: str, rule: str, *, code: str, **data: Any) -> _Error:
        """The error for `loss` having broken `rule`; `data` are the other attributes."""
        error = cls(f"[{code}] {loss}: {rule}")
        fixes = tuple(fix if isinstance(fix, Fix) else Fix(fix) for fix in data.pop("fixes", ()))
        vars(error).update(data, loss=loss, rule=rule, fixes=fixes, rank=current_rank())
        return error

    def __repr__(self) -> str:
        fixes = f", fixes={tuple(map(str, self.fixes))}" if self.fixes else ""
        return f"{type(self).__name__}({str(self)!r}{fixes})"

    def __str__(self) -> str:
        lines = [super().__str__()]
        name_width = max((len(argument.name) for argument in self.arguments), default=0)
        came_width = max((len(argument.came) for argument in self.arguments), default=0)
        labels = [self._label(argument.name, name_width) for argument in self.arguments]
        label_width = max(map(len, labels), default=0)
        for label, (_, came, declared) in zip(labels, self.arguments):
            row = f"    {label:<{label_width}}   {came:<{came_width}}"
            lines.append(f"{row}   expected: {declared}" if declared else row.rstrip())
        if self.called_by:
            lines.append(self.called_by)
        if self.rank is not None:
            lines.append(f"Rank: {self.rank}")
        if self.native:
            lines.append(f"PyTorch: {self.native}")
        if self.advice:
            lines.append(self.advice)
        lines.extend(Fix(self.calls.get(fix, fix), fix.when).line for fix in self.fixes)
        if self.history:
            lines.append("History, newest first:")
        for name, steps in self.history:
            lines += [
                f"    {'' if older else name:<{name_width}}   {step}"
                for older, step in enumerate(steps)
            ]
        return "\n".join(lines)

    def _label(self, name: str, width: int) -> str:
        """An argument in the table, with what stands for it in the call."""
        expression = self.expressions.get(name, name)
        if expression == name:
            return name
        if len(expression) > _WIDEST:
            expression = f"{expression[: _WIDEST - 3]}..."
        return f"{name:<{width}} = {expression}"


class LayoutError(SafeLossError):
    """The shapes do not fit together."""


class AmbiguousLayoutError(LayoutError):
    """The shapes fit together in two ways that mean different things."""


class DTypeError(SafeLossError):
    """A dtype that this loss does not take, or that means something else here."""


class DeviceError(SafeLossError):
    """The tensors of one call are on different devices."""


class ValueRangeError(SafeLossError):
    """Numbers outside what their layout allows: labels in -1/1, an index past the classes."""


class ArgumentTypeError(SafeLossError, TypeError):
    """An argument of the wrong Python type, such as a list or a NumPy array for a tensor."""


class OptionError(SafeLossError):
    """An option that is not one of its choices, such as `reduction="avg"`."""


class SuspiciousInputWarning(_Coded, UserWarning):
    """Inputs that are legal and very likely not what was meant, such as a double softmax."""


for _name in __all__:
    if _name not in ("Argument", "Fix", "Past"):
        globals()[_name].__module__ = "safeloss"  # where users import them from
