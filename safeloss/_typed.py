"""`typed`: jaxtyping's hints on any function, checked in eager mode and inside `torch.compile`."""

import contextlib
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jaxtyping
from jaxtyping import jaxtyped
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.fx import Proxy

from safeloss._contract.codes import TYPED
from safeloss._contract.patterns import Axes, Pattern, is_bearable, parse
from safeloss._messages.call_site import name_arguments
from safeloss._messages.explain import declared_text, describe, rank_suffix
from safeloss._torch import constant_while_compiling, outside_compiler
from safeloss._trace import with_history
from safeloss.errors import Argument, ArgumentTypeError, DTypeError, LayoutError, SafeLossError

_Function = TypeVar("_Function", bound=Callable[..., Any])

RETURN = "return"


class _Hint(NamedTuple):
    """What one parameter, or the result, is declared to be."""

    hint: Any
    patterns: tuple[Pattern, ...]  # empty where it is no array
    members: tuple[Any, ...]  # the `_Hint`s of a tuple's members
    arrays: bool  # nothing else is declared, but perhaps None
    optional: bool


_ANYTHING = _Hint(Any, (), (), False, False)


def typed(function: _Function) -> _Function:
    """`function` with its jaxtyping hints checked at every call, arguments and result alike.

    What `jaxtyped(typechecker=beartype)` does, and also under `torch.compile(fullgraph=True)`,
    where array hints (alone, in a union or a tuple) are matched on symbolic sizes without a graph
    break. It follows jaxtyping's switch: with `JAXTYPING_DISABLE=1` nothing is checked. Axes
    given as f-strings ("{size}") are not supported.

    Raises:
        LayoutError: a shape does not match its annotation.
        DTypeError: an element type does not match its annotation.
        ArgumentTypeError: what is no array does not match its annotation.

    >>> from jaxtyping import Float
    >>> @typed
    ... def head(x: Float[torch.Tensor, "batch features"]) -> Float[torch.Tensor, " batch"]:
    ...     return x
    >>> head(torch.zeros(8, 3))
    Traceback (most recent call last):
    safeloss.LayoutError: [SL151] head: the return value does not match its annotation.
        x        float32 [8, 3]   declared Float [batch, features]
        return   float32 [8, 3]   declared Float [batch]
    The axes so far: batch = 8, features = 3.
    """
    owner = function.__qualname__
    names, several, named = _parameters(function)
    hints: dict[str, _Hint] = {}
    with contextlib.suppress(NameError):  # a name in a string may be defined only later
        hints.update(_hints(function))

    @constant_while_compiling
    def resolve() -> bool:
        if not hints:
            hints.update(_hints(function))
        return True

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        resolve()
        given, known = {**dict(zip(names, args)), **kwargs}, dict(hints)
        for position, value in enumerate(args[len(names) :]):
            given[f"{several}[{position}]"] = value
            known[f"{several}[{position}]"] = hints.get(several, _ANYTHING)
        for name in kwargs:
            if name not in known:
                known[name] = hints.get(named, _ANYTHING)
        if any([isinstance(value, Proxy) for value in given.values()]):
            return function(*args, **kwargs)  # `torch.fx` records the function's own calls
        if is_dynamo_compiling():
            axes = _match(owner, known, given, list(given), {})
            result = function(*args, **kwargs)
            given[RETURN] = result
            _match(owner, known, given, [RETURN], axes)
            return result
        with jaxtyped("context"):
            _verify(owner, known, given, list(given))
            result = function(*args, **kwargs)
            _verify(owner, known, {**given, RETURN: result}, [RETURN])
        return result

    # A code object of its own: Dynamo keeps its cache, its limit on recompilation and its decision
    # to skip a function by code object, and all wrappers would share one.
    function_: Any = wrapper
    function_.__code__ = function_.__code__.replace(co_name=function.__name__)
    return typing.cast(_Function, wrapper)


def _parameters(function: Callable[..., Any]) -> tuple[list[str], str, str]:
    """Those that positional arguments go to one by one, and those that take the rest."""
    parameters = inspect.signature(function).parameters.values()
    single = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    several = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    named = [p.name for p in parameters if p.kind is p.VAR_KEYWORD]
    names = [p.name for p in parameters if p.kind in single]
    return names, "".join(several), "".join(named)


def _hints(function: Callable[..., Any]) -> dict[str, _Hint]:
    known = typing.get_type_hints(function, include_extras=True)
    return {name: _hint(hint) for name, hint in known.items()} or {"": _ANYTHING}


def _hint(hint: Any) -> _Hint:
    members = typing.get_args(hint) if typing.get_origin(hint) is tuple else ()
    patterns = parse(hint)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    parts = typing.get_args(hint) if union else (hint,)
    optional = types.NoneType in parts
    arrays = all(parse(part) or part is types.NoneType for part in parts)
    inner = () if Ellipsis in members else tuple(_hint(member) for member in members)
    return _Hint(hint, patterns, inner, arrays and bool(patterns), optional)


@outside_compiler
def _verify(owner: str, hints: dict[str, _Hint], given: dict[str, Any], names: list[str]) -> None:
    """beartype's word on `names`, in the axes that jaxtyping has bound so far."""
    for name in names:
        if name in hints and not is_bearable(given[name], hints[name].hint):
            refusal = _refusal(owner, hints, given, name)
            name_arguments(refusal, given)
            raise with_history(refusal, given).with_traceback(None) from None


def _match(
    owner: str, hints: dict[str, _Hint], given: dict[str, Any], names: list[str], axes: Axes
) -> Axes:
    """The same word by plain Python, for tensors; inside a compiler."""
    for name in names:
        if name in hints:
            if not _is_declared(given[name], hints[name]):
                rule = f"{_subject(name)} does not match its annotation."
                text = f"[{TYPED}] {owner}: {rule}{rank_suffix()}"
                raise ArgumentTypeError(text)
            for value, hint in _leaves(given[name], hints[name]):
                bound = None
                for pattern in hint.patterns:
                    if bound is None and value.dtype in pattern.dtypes:
                        bound = pattern.match(value.shape, axes)
                if bound is None:
                    came = describe(value.dtype, value.shape)
                    what = f"{came}, declared {declared_text(hint.patterns)}"
                    rule = f"{_subject(name)} does not match its annotation ({what})."
                    text = f"[{TYPED}] {owner}: {rule}{rank_suffix()}"
                    if any([value.dtype in pattern.dtypes for pattern in hint.patterns]):
                        raise LayoutError(text)
                    raise DTypeError(text)
                axes = bound
    return axes


def _is_declared(value: Any, hint: _Hint) -> bool:
    """Whether tensors stand where only arrays are declared, and tuples where tuples are."""
    if hint.members:
        return (
            isinstance(value, tuple)
            and len(value) == len(hint.members)
            and all([_is_declared(part, inner) for part, inner in zip(value, hint.members)])
        )
    return not hint.arrays or isinstance(value, Tensor) or (hint.optional and value is None)


def _leaves(value: Any, hint: _Hint) -> list[tuple[Tensor, _Hint]]:
    """The tensors in `value` that are declared as arrays."""
    if isinstance(value, Tensor):
        return [(value, hint)] if hint.patterns else []
    leaves: list[tuple[Tensor, _Hint]] = []
    if isinstance(value, tuple) and len(value) == len(hint.members):
        for member, inner in zip(value, hint.members):
            leaves += _leaves(member, inner)
    return leaves


def _subject(name: str) -> str:
    return "the return value" if name == RETURN else f"`{name}`"


def _refusal(
    owner: str, hints: dict[str, _Hint], given: dict[str, Any], name: str
) -> SafeLossError:
    """The error for the argument or result `name`, with all tensors and the axes so far."""
    rows: list[Argument] = []
    axes: Axes = {}
    for key, value in given.items():
        for leaf, hint in _leaves(value, hints.get(key, _ANYTHING)):
            came = describe(leaf.dtype, leaf.shape)
            rows.append(Argument(key, came, declared_text(hint.patterns)))
            fits = [p.match(leaf.shape, axes) for p in hint.patterns if leaf.dtype in p.dtypes]
            axes = next((bound for bound in fits if bound is not None), axes)
    value, hint = given[name], hints[name]
    error: type[SafeLossError] = LayoutError
    if isinstance(value, Tensor) and hint.patterns:
        if not any(value.dtype in pattern.dtypes for pattern in hint.patterns):
            error = DTypeError
    elif name not in [row.name for row in rows]:
        error = ArgumentTypeError
        rows.append(
            Argument(name, type(value).__name__, getattr(hint.hint, "__name__", str(hint.hint)))
        )
    named = [f"{key} = {size}" for key, size in axes.items() if key.isidentifier()]
    return error.about(
        owner,
        f"{_subject(name)} does not match its annotation.",
        code=TYPED,
        arguments=tuple(rows),
        advice=f"The axes so far: {', '.join(named)}." if named else "",
    )
