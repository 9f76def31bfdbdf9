"""`trace`: which operations gave a tensor its shape and its element type, and on whose lines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from safeloss._contract.activations import remember_place
from safeloss._decorating import FunctionDecorator
from safeloss._messages.explain import describe
from safeloss._messages.stack import Line, users_line
from safeloss._torch import active_modes, leave, unhandled
from safeloss.errors import Past, SafeLossError

MOST_STEPS = 16  # of one tensor; past that the oldest are forgotten
MOST_TENSORS = 16_384  # that one trace follows; past that those made first are forgotten

# Where the first tensor is not what becomes of the result: a condition, a bias.
_FIRST = {torch.where: 1, torch.addmm: 1, torch.baddbmm: 1}
# Every result goes back to an argument of its own.
_EACH = (torch.broadcast_tensors, torch.meshgrid)

_Error = TypeVar("_Error", bound=SafeLossError)


class Kind(NamedTuple):
    """All that a trace compares, and keeps, of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return describe(self.dtype, self.shape)


class Step(NamedTuple):
    """An operation that changed the shape or the element type of a tensor, or made one anew.

    >>> str(Step("squeeze()", Kind(torch.float32, (8, 1)), Kind(torch.float32, (8,))))
    '[8, 1] -> [8]  squeeze()'
    """

    operation: str  # "squeeze()", "T"
    before: Kind | None  # of the argument that is followed; None where none is a tensor
    after: Kind
    of: int = 1  # so many stood in a list, as for `stack`, and `before` is the first of them
    line: Line | None = None  # of the user's

    def __str__(self) -> str:
        words = [self._change(), self.operation]
        if self.line is not None:
            words += [str(self.line), self.line.text]
        return "  ".join(filter(None, words))

    def _change(self) -> str:
        if self.before is None:
            return str(self.after)
        first = f" (first of {self.of})" if self.of > 1 else ""
        if self.before.dtype != self.after.dtype:
            return f"{self.before}{first} -> {self.after}"
        return f"{list(self.before.shape)}{first} -> {list(self.after.shape)}"


def trace() -> "Trace":
    """Record, inside `with trace():`, the operations that change shapes and element types.

    A refusal (`SafeLossError`) that is raised inside ends with the history of every argument,
    newest first; `with trace() as t:` gives `t.history(tensor)`. A history goes on through
    operations that change nothing, such as `relu`: it is that of the first tensor argument (for a
    list, of its first; scalars only where there is nothing else). It holds the newest 16 steps;
    tensors are not kept alive. Nothing is active outside. Also a decorator.

    Raises:
        TypeError: it decorates a class, a coroutine function or a generator function.

    >>> with trace() as t:
    ...     labels = torch.zeros(8, 1).squeeze()
    >>> [(step.operation, step.after.shape) for step in t.history(labels)]
    [('squeeze()', (8,)), ('zeros()', (8, 1))]
    """
    return Trace()


class Trace(FunctionDecorator):
    """The histories of the tensors that were made inside; for this thread, see `trace`."""

    public_name = "trace"

    def __init__(self) -> None:
        self._recorder = _Recorder()

    def __enter__(self) -> "Trace":
        self._recorder.ended = False
        self._recorder.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._recorder.ended = not leave(self._recorder)

    def history(self, tensor: Tensor) -> tuple[Step, ...]:
        """What gave `tensor` its shape and element type, newest first; nothing if not seen."""
        return self._recorder.known(tensor)


def history(tensor: object) -> tuple[Step, ...]:
    """The history of `tensor` as the innermost active trace that has one knows it."""
    if isinstance(tensor, Tensor):
        for mode in reversed(active_modes()):
            if isinstance(mode, _Recorder) and not mode.ended and (steps := mode.known(tensor)):
                return steps
    return ()


def with_history(refusal: _Error, named: Mapping[str, object]) -> _Error:
    """`refusal` of the arguments `named`, with what active traces know of them."""
    pasts = [Past(row.name, history(named.get(row.name))) for row in refusal.arguments]
    refusal.history = tuple(past for past in pasts if past.steps)
    return refusal


class _Source(NamedTuple):
    """The argument whose history goes on in a result, as it was before."""

    tensor: Tensor | None
    kind: Kind | None
    of: int


class _Recorder(TorchFunctionMode):
    """Sees the calls of torch's functions, but not those that they make themselves.

    Its `__enter__` and `__exit__` are torch's own, which Dynamo knows.
    """

    def __init__(self) -> None:
        self.past: Any = WeakTensorKeyDictionary()  # the steps of every tensor, newest first
        self.ended = False  # though it may be on the stack of another thread still

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # Dynamo inlines this line, and compiles what it would without us. Of a trace that was
        # entered twice the outer one records.
        if is_dynamo_compiling() or self.ended or self in active_modes():
            return func(*args, **kwargs)
        with unhandled():
            sources = _sources(func, args, kwargs)
        result = func(*args, **kwargs)
        with unhandled():
            changed = sources[0].tensor if result is None else result  # None of `x.data = y`
            for position, tensor in enumerate(_tensors(changed)):
                self._follow(func, sources[min(position, len(sources) - 1)], tensor)
        return result

    def known(self, tensor: Tensor) -> tuple[Step, ...]:
        """The history of `tensor`; none if it does not end in what the tensor now is."""
        with unhandled():
            return self._until(tensor, _kind(tensor))

    def _until(self, tensor: Tensor | None, kind: Kind | None) -> tuple[Step, ...]:
        # Not every change is seen: a batch from a worker is an `empty()`, and then its `[8, 1]`.
        past = () if tensor is None else self.past.get(tensor, ())
        return past if past and past[0].after == kind else ()

    def _follow(self, func: Callable[..., Any], source: _Source, tensor: Tensor) -> None:
        """Let the history of `source` go on in `tensor`, which `func` has made of it."""
        remember_place(tensor, _place)
        past = self._until(source.tensor, source.kind)
        after = _kind(tensor)
        if after is not None and after != source.kind:
            step = Step(_name(func), source.kind, after, source.of, users_line())
            past = (step, *past)[:MOST_STEPS]
        if past:
            if len(self.past) >= MOST_TENSORS and tensor not in self.past:
                del self.past[next(self.past.keys())]
            self.past[tensor] = past


def _place() -> str:
    """Where the user's code stands, in the words of a message."""
    line = users_line()
    return "" if line is None else f"at {line} (`{line.text}`)" if line.text else f"at {line}"


def _sources(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[_Source]:
    """The one whose history goes on in all results of a call, or one for each result."""
    given = [*args[_FIRST.get(func, 0) :], *kwargs.values()]
    if func in _EACH:
        return [_Source(tensor, _kind(tensor), 1) for tensor in _tensors(given)]
    scalar = _Source(None, None, 1)
    for value in given:
        first, of = (value[0], len(value)) if type(value) in (list, tuple) and value else (value, 1)
        if isinstance(first, Tensor):
            source = _Source(first, _kind(first), of)
            if source.kind is None or source.kind.shape:
                return [source]
            if scalar.tensor is None:
                scalar = source
    return [scalar]


def _tensors(value: object) -> Iterator[Tensor]:
    """Those in the arguments or the result of one of torch's functions."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        for member in value:
            yield from _tensors(member)


def _kind(tensor: Tensor) -> Kind | None:
    """None where it has none: nested tensors, parameters of lazy modules, symbolic sizes."""
    try:
        shape = tuple(tensor.shape)
    except RuntimeError:
        return None
    # Comparing symbolic ones would guard on them.
    return Kind(tensor.dtype, shape) if all(type(size) is int for size in shape) else None


def _name(func: Callable[..., Any]) -> str:
    """What the user would call it."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):  # of a property
        return getattr(func, "__self__", func).__name__
    if name == "__getitem__":
        return "indexing"
    name = name.partition(".")[0]  # `squeeze.dim` is `squeeze`
    return f"{name[2:-2] if name.startswith('__') else name}()"
