"""The losses of a model, a trainer or a plain object become safe ones in place, and back."""

from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeVar

from torch import nn

from safeloss._contract.options import CheckValues, ClassDim, Empty
from safeloss._messages.stack import warn
from safeloss._runtime.checked import prepare
from safeloss.losses import SAFE, MultiLabelBCE

_Holder = TypeVar("_Holder")

_SAFE: dict[type[nn.Module], Any] = {**SAFE}
_NATIVE: dict[type[nn.Module], Any] = {safe: native for native, safe in SAFE.items()} | {
    MultiLabelBCE: nn.BCEWithLogitsLoss
}
_CHANGES_THE_RESULT = {"class_dim": -1, "empty": "zero"}  # options that PyTorch cannot be given


def convert(
    module: _Holder,
    *,
    class_dim: ClassDim = None,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
) -> _Holder:
    """Turn every loss of PyTorch inside `module` into the safe one, in place, and return `module`.

    `module` is a model, a single loss, or any object whose attributes hold losses (a trainer). Each
    loss stays the same object, with its options, weights, parameters and hooks; only its class
    changes. Subclasses of PyTorch's losses stay as they are, and so does a loss whose `forward` was
    replaced, which a warning names. An option goes to each loss that has it.

    Raises:
        OptionError: a loss does not take this value of an option; then no loss was changed.

    >>> model = nn.ModuleDict({"body": nn.Linear(5, 1), "loss": nn.BCEWithLogitsLoss()})
    >>> convert(model)["loss"]
    SafeBCEWithLogitsLoss()
    """
    options = {"class_dim": class_dim, "check_values": check_values, "empty": empty}
    states = []
    for loss in _losses(module, _SAFE, lambda kind: _SAFE[kind].forward.__wrapped__, "convert"):
        safe = _SAFE[type(loss)]
        own = {name: value for name, value in options.items() if name in safe._own_options}
        states.append((loss, safe, _state_of(loss, safe, own)))
    for loss, safe, state in states:  # only now, when all options were found right
        vars(loss).update(state)
        loss.__class__ = safe
    return module


def to_native(module: _Holder) -> _Holder:
    """Turn every safe loss inside `module` into PyTorch's own, in place, and return `module`.

    This is the way back from `convert`, for a place where safeloss is not installed. A warning
    names the options that PyTorch lacks and that change a result: `class_dim=-1`, `empty="zero"`.

    >>> to_native(convert(nn.MSELoss()))
    MSELoss()
    """
    for loss in _losses(module, _NATIVE, lambda kind: kind.forward, "to_native"):
        lost = [
            f"{name}={value!r}"
            for name, value in _CHANGES_THE_RESULT.items()
            if getattr(loss, name, None) == value
        ]
        if lost:
            warn(f"to_native: PyTorch has no {' and no '.join(lost)}, which {loss} had.")
        native = _NATIVE[type(loss)]
        for name in (*type(loss)._own_options, "_memory"):
            vars(loss).pop(name, None)
        loss.__class__ = native
    return module


def _state_of(loss: nn.Module, safe: type[nn.Module], options: dict[str, Any]) -> dict[str, Any]:
    """What `loss` needs beside its own state to be a `safe` one with these options."""
    trial: Any = object.__new__(safe)
    vars(trial).update(vars(loss))
    prepare(trial, **options)
    return {name: value for name, value in vars(trial).items() if name not in vars(loss)}


class _Found(NamedTuple):
    path: str  # as Python code, from the object that was given
    module: nn.Module


def _losses(holder: Any, kinds: Any, forward_of: Callable[[Any], Any], caller: str) -> list[Any]:
    """The modules inside `holder` whose class is one of `kinds`.

    One whose `forward` was replaced is left out, and a warning names it.
    """
    if isinstance(holder, _NO_HOLDERS):
        raise TypeError(
            f"{caller}: give a module or an object that holds losses, not {holder!r}. "
            "For a function of torch.nn.functional take the one in safeloss.functional."
        )
    losses = []
    for path, module in _modules(holder):
        kind = type(module)
        if kind not in kinds:
            continue
        if getattr(module.forward, "__func__", None) is forward_of(kind):
            losses.append(module)
        else:
            name = f"`{path}`" if path else "the loss"
            warn(
                f"{caller}: {name} ({kind.__name__}) has a `forward` that somebody has replaced, "
                "and stays as it is."
            )
    return losses


_NO_HOLDERS = (type, ModuleType, FunctionType, MethodType)


def _modules(holder: Any) -> Iterator[_Found]:
    """Every module inside `holder`, once.

    Plain objects that a module holds are looked into as `holder` is, by their attributes, but not
    into the plain objects that those hold.
    """
    seen: set[int] = set()
    waiting = [_Found("", holder)] if isinstance(holder, nn.Module) else [*_held("", holder)]
    while waiting:
        path, root = waiting.pop(0)
        for name, module in root.named_modules(prefix=path):
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield _Found(name, module)
            for attribute, value in _attributes(name, module):
                if isinstance(value, nn.Module):
                    waiting.append(_Found(attribute, value))
                else:
                    waiting.extend(_held(attribute, value))


def _held(path: str, holder: Any) -> Iterator[_Found]:
    """The modules that a plain object holds."""
    for name, value in _attributes(path, holder):
        if isinstance(value, nn.Module):
            yield _Found(name, value)


def _attributes(path: str, holder: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object, with the elements of those that are containers."""
    if isinstance(holder, _NO_HOLDERS):
        return
    if isinstance(holder, (dict, list, tuple, set)):
        yield from _elements(path, holder)
    for name, value in getattr(holder, "__dict__", {}).items():
        if name == "_modules":
            continue  # `named_modules` has them
        attribute = f"{path}.{name}" if path else name
        yield attribute, value
        yield from _elements(attribute, value)


def _elements(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, element in value.items():
            yield f"{path}[{key!r}]", element
    elif isinstance(value, (list, tuple, set)):
        for index, element in enumerate(value):
            yield f"{path}[{index}]", element
