"""What a loss reaches, as it was: closures, globals, layers, tensors and random generators."""

import copy
import functools
import operator
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_MOST_OBJECTS = 10_000  # beyond which nobody's loss reaches on purpose
_EMPTY = object()  # in place of what a cell does not hold yet
_CONTAINERS = (OrderedDict, dict, list, set, deque)


class Snapshot:
    """The state of everything that a loss can change, so that each call can begin from it.

    A function cannot be copied with what it closes over: a layer in a closure or a global, whose
    running statistics a call moves. So these are put back to what they were. Of objects that are
    neither layers nor tensors, containers, random generators and instances of the user's own
    classes are known.
    """

    def __init__(self, loss: Any) -> None:
        self._restore: list[Callable[[], None]] = []
        reached: list[Any] = [loss]
        seen: dict[int, Any] = {}  # the objects themselves, so that no number is given twice
        while reached and len(seen) < _MOST_OBJECTS:
            each = reached.pop()
            if id(each) not in seen:
                seen[id(each)] = each
                reached.extend(self._saved(each))

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for restore in self._restore:
                restore()

    def _saved(self, value: Any) -> Iterator[Any]:
        """Save what one object holds by itself, and give what it leads to."""
        if isinstance(value, Tensor):
            self._restore.append(_saved_tensor(value))
            yield value.grad if value.is_leaf else None
        elif isinstance(value, (types.FunctionType, functools.partial, types.MethodType)):
            yield from self._saved_function(value)
        elif isinstance(value, _CONTAINERS):
            self._restore.append(_saved_container(value))
            yield from dict.values(value) if isinstance(value, dict) else value
        elif isinstance(value, tuple):
            yield from value
        elif (state := _generator_state(value)) is not None:
            self._restore.append(state)
        elif isinstance(value, nn.Module) or _is_users(value):
            yield getattr(value, "__dict__", None)
            for kind in type(value).__mro__:
                if not _is_library(kind.__module__):
                    yield from (f for f in vars(kind).values() if callable(f))

    def _saved_function(self, function: Any) -> Iterator[Any]:
        if isinstance(function, functools.partial):
            yield from (function.func, function.args, function.keywords)
        elif isinstance(function, types.MethodType):
            yield from (function.__self__, function.__func__)
        elif not _is_library(function.__module__):
            for cell in function.__closure__ or ():
                held = _held(cell)
                self._restore.append(functools.partial(_put_back, cell, held))
                yield held
            names, scope = set(_names(function.__code__)), function.__globals__
            named = {name: scope[name] for name in names if name in scope}
            self._restore.append(functools.partial(scope.update, named))
            yield from named.values()
            yield from (function.__defaults__, function.__kwdefaults__, function.__dict__)


def _is_library(module: str | None) -> bool:
    """Whether code of this module has no state that a loss may change: Python's, torch's, ours."""
    root = (module or "").partition(".")[0]
    return root in ("torch", "safeloss", "numpy") or root in sys.stdlib_module_names - {"__main__"}


def _is_users(value: Any) -> bool:
    """Whether it is an instance of a class that somebody wrote."""
    return not isinstance(value, (type, types.ModuleType)) and not _is_library(
        type(value).__module__
    )


def _names(code: types.CodeType) -> Iterator[str]:
    """The globals that a function, and those within it, may use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def copy_of(value: Any) -> Any:
    """A deep copy, or the value itself where it cannot be copied."""
    try:
        return copy.deepcopy(value)
    except Exception:  # of a lock, an open file, a tensor inside a graph: nobody says which
        return value


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _put_back(cell: types.CellType, held: Any) -> None:
    if held is not _EMPTY and _held(cell) is not held:
        cell.cell_contents = held


def _saved_tensor(tensor: Tensor) -> Callable[[], None]:
    value = None if tensor.is_meta else tensor.detach().clone()
    grad, requires_grad = tensor.grad if tensor.is_leaf else None, tensor.requires_grad

    def restore() -> None:
        if value is not None and not torch.equal(tensor, value):
            tensor.data.copy_(value)  # `data`: a graph that saved the tensor goes on to know it
        if tensor.is_leaf:
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.grad is not grad:
                tensor.grad = grad

    return restore


def _saved_container(container: Any) -> Callable[[], None]:
    # The methods of the builtin type: those of a subclass may make something of each member.
    kind = _kind(container)
    saved = _members(kind, container)

    def restore() -> None:
        members = _members(kind, container)
        same = len(members) == len(saved) and all(map(operator.is_, members, saved))
        if same:  # the same objects: to compare these may be costly, or no truth value
            return
        kind.clear(container)
        if issubclass(kind, dict):
            for key, value in zip(saved[::2], saved[1::2]):
                kind.__setitem__(container, key, value)
        else:
            (kind.update if kind is set else kind.extend)(container, saved)

    return restore


def _kind(container: Any) -> Any:
    return next(each for each in _CONTAINERS if isinstance(container, each))


def _members(kind: Any, container: Any) -> list[Any]:
    """The members, or keys and values in turn."""
    if issubclass(kind, dict):
        return [each for pair in kind.items(container) for each in pair]
    return [*kind.__iter__(container)]


def _generator_state(value: Any) -> Callable[[], None] | None:
    """What sets a random generator back: torch's, Python's, or one of NumPy's two kinds."""
    if isinstance(value, (type, types.ModuleType)):
        return None
    for getter, setter in (("get_state", "set_state"), ("getstate", "setstate")):
        if hasattr(value, getter) and hasattr(value, setter):
            return functools.partial(getattr(value, setter), getattr(value, getter)())
    bits = getattr(value, "bit_generator", None)
    return None if bits is None else functools.partial(setattr, bits, "state", bits.state)
