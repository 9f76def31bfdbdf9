"""`wrap`: a loss that somebody else wrote gets a check in front of it."""

import functools
import inspect
import keyword
import typing
from collections.abc import Callable
from typing import Any, TypeVar, overload

from torch import nn

from safeloss._contract.options import AT_CALL, OURS, CheckValues
from safeloss._own import ALWAYS, build_checked, verify_layouts

_Loss = TypeVar("_Loss", bound=Callable[..., Any])


@overload
def wrap(
    loss: _Loss, *, input: Any, check_values: CheckValues = "first", **layouts: Any
) -> _Loss: ...
@overload
def wrap(
    loss: None = None, *, input: Any, check_values: CheckValues = "first", **layouts: Any
) -> Callable[[_Loss], _Loss]: ...
def wrap(
    loss: Any = None, *, input: Any, check_values: CheckValues = "first", **layouts: Any
) -> Any:
    """Check the calls of a function or a module that somebody else wrote.

    The layouts go by position: the first is of the first positional argument of `loss`, and so on,
    whatever its parameters are called. Arguments are aligned by axes of size 1, cast where the
    layout says so, or refused. What the loss returns stays as it is. A function gives a checked
    function. A module is returned itself, with the same class and `state_dict`: it gets a forward
    pre-hook. Without `loss` this is a decorator.

    Raises:
        TypeError: a hint that is no layout, or a loss that takes fewer arguments.

    >>> import torch
    >>> from safeloss import layouts
    >>> def theirs(y_hat, y):
    ...     return (y_hat - y).abs().mean()
    >>> ours = wrap(theirs, input=layouts.Predictions, target=layouts.Targets)
    >>> ours(torch.zeros(8, 1), torch.ones(8))
    tensor(1.)
    """
    hints = {"input": input, **layouts}
    if loss is None:
        return functools.partial(wrap, check_values=check_values, **hints)
    check = _Check.of(loss, hints, check_values)
    if isinstance(loss, nn.Module):
        loss.register_forward_pre_hook(check, with_kwargs=True)
        return loss

    @functools.wraps(loss)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        arguments, keywords = check(None, arguments, keywords)
        return loss(*arguments, **keywords)

    return wrapped


class _Check:
    """What is called before the loss: its tensors, checked and aligned, and all else as it came."""

    def __init__(
        self, name: str, names: tuple[str, ...], hints: dict[str, Any], skip: int, values: str
    ) -> None:
        self.state = name, names, hints, skip, values  # what a copy is made of
        self.names, self.skip, self.values = names, skip, values
        self.required = {name for name, hint in zip(names, hints.values()) if not _optional(hint)}
        self.aligned = _aligner(name, dict(zip(names, hints.values())))

    @classmethod
    def of(cls, loss: Any, hints: dict[str, Any], check_values: str) -> "_Check":
        """The check of a loss, with the names of its own parameters where they are known."""
        if isinstance(loss, type) or not callable(loss):
            raise TypeError(f"wrap: give a function or a module, not {loss!r}.")
        name = getattr(loss, "__name__", type(loss).__name__)
        called = loss.forward if isinstance(loss, nn.Module) else loss
        try:
            parameters = [*inspect.signature(called).parameters.values()]
        except (TypeError, ValueError):  # of a builtin
            parameters = []
        skip = int(bool(parameters) and parameters[0].name == "self")
        single = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = tuple(p.name for p in parameters[skip:] if p.kind in single)[: len(hints)]
        several = not parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if len(names) < len(hints):
            if not several:
                raise TypeError(
                    f"wrap: `{name}` takes {len(names)} arguments by position, and there are "
                    f"{len(hints)} layouts."
                )
            names = tuple(hints)
        return cls(name, names, hints, skip, check_values)

    def __reduce__(self) -> Any:
        return _Check, self.state

    def __call__(self, *call: Any) -> Any:  # starred, for the frame only passes on its arguments
        _, arguments, keywords = call
        names, skip = self.names, self.skip
        given = arguments[skip : skip + len(names)]
        by_name = [name for name in names[len(given) :] if name in keywords]
        values = [*given, *[keywords[name] for name in by_name]]
        present = dict(zip((*names[: len(given)], *by_name), values))
        if not self.required <= present.keys():
            return arguments, keywords  # the loss says what it lacks
        ordered = [present.get(name) for name in names]
        checked = dict(zip(names, self.aligned(*ordered, check_values=self.values)))
        aligned = [checked[name] for name in names[: len(given)]]
        arguments = (*arguments[:skip], *aligned, *arguments[skip + len(names) :])
        return arguments, {**keywords, **{name: checked[name] for name in by_name}}


def _optional(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _aligner(name: str, hints: dict[str, Any]) -> Any:
    """A checked function that returns its tensors as they were aligned."""
    parameters = [
        inspect.Parameter(
            f"{each}_" if each in (*OURS, *AT_CALL) else each,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=hint,
            default=None if _optional(hint) else inspect.Parameter.empty,
        )
        for each, hint in hints.items()
    ]
    verify_layouts("wrap", parameters)
    names = ", ".join(parameter.name for parameter in parameters)
    function = name if name.isidentifier() and not keyword.iskeyword(name) else "loss"
    scope: dict[str, Any] = {"__name__": __name__}
    exec(f"def {function}({names}):\n    return ({names},)", scope)  # names of parameters only
    return build_checked(scope[function], inspect.Signature(parameters), ALWAYS)
