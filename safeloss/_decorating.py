"""Context managers that are decorators too, of functions whose body runs inside the call."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, ClassVar, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])

_RUNS_LATER = {
    "a coroutine function": inspect.iscoroutinefunction,
    "an async generator function": inspect.isasyncgenfunction,
    "a generator function": inspect.isgeneratorfunction,
}


class FunctionDecorator(contextlib.ContextDecorator):
    """A context manager that decorates functions, and refuses what it would not be active in.

    The call of a coroutine function or a generator function returns before its body runs, and a
    decorated class would be a function that is active while instances are made.
    """

    public_name: ClassVar[str]  # of the function in `safeloss` that makes it

    def __call__(self, func: _Function) -> _Function:
        statement = f"`with safeloss.{self.public_name}():`"
        if isinstance(func, type):
            raise TypeError(
                f"{self.public_name}: `{func.__qualname__}` is a class; "
                f"decorate its methods, or write {statement} inside them."
            )
        function = _python_function(func)
        for kind, is_kind in _RUNS_LATER.items():
            if is_kind(function):
                raise TypeError(
                    f"{self.public_name}: `{function.__qualname__}` is {kind}, whose body runs "
                    f"after the call has returned; write {statement} inside it, around lines "
                    "that do not await or yield."
                )
        return super().__call__(func)


def _python_function(called: Any) -> Any:
    """The function that a call of `called` runs; `called` itself if it is not one in Python."""
    if isinstance(called, functools.partial):
        return _python_function(called.func)
    if isinstance(called, (MethodType, staticmethod, classmethod)):
        return _python_function(called.__func__)
    method = getattr(type(called), "__call__", None)  # noqa: B004  # the method is what is read
    return method if inspect.isfunction(method) else called
