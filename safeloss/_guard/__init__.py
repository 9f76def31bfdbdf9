"""`guard`: native losses, wherever they are called, held to the signatures of ours.

A function mode sees every call while it is active; nothing is patched. PyTorch's function runs
before the guard raises or warns, so that where PyTorch refuses a call, its own error is raised.
"""

import functools
from collections.abc import Hashable, Mapping, Sequence
from contextvars import ContextVar
from fnmatch import fnmatch
from typing import Any, Literal, TypeAlias

from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from safeloss._contract.model import Reading
from safeloss._decorating import FunctionDecorator
from safeloss._guard import arithmetic as operators
from safeloss._guard import native
from safeloss._guard.caller import Site, caller
from safeloss._guard.findings import Findings, Suspect
from safeloss._guard.origins import FOLLOWED, Origins
from safeloss._messages.stack import Line, warn
from safeloss._runtime.memory import Memory
from safeloss._torch import leave, unobserved
from safeloss._trace import with_history

On: TypeAlias = Literal["raise", "warn", "log"]

_MOST_FINE = 1024  # kinds of calls that one guard remembers; past that it begins anew

_allowances: ContextVar[tuple["Allowance", ...]] = ContextVar("allowances", default=())


def guard(on: On = "raise", arithmetic: bool = False, allow: Sequence[str] = ()) -> "Guard":
    """Hold every call of a native loss, in anybody's code, to the signature of ours.

    A context manager, or a decorator. Where PyTorch computes something else than the score of each
    prediction against its own target, `on="raise"` raises the error that our loss would raise,
    also where that would have aligned the target; `"warn"` warns, once for each line; and `"log"`
    only collects: `with guard(on="log") as findings`. What PyTorch refuses by itself is no
    finding, and the numbers are not read.

    `arithmetic` also watches element-wise operators, for two tensors that are equal up to axes of
    size 1 and repeat each other, unless the statement itself makes such an axis (`x[:, None] - y`).
    Nothing is found in files that match one of the patterns `allow` ("*/third_party/*"), nor
    inside `with safeloss.allow():`.

    Calls are seen in the thread that entered, whichever task or generator of it runs, and not
    inside `torch.compile`.

    Raises:
        SafeLossError: what is found, with `on="raise"`.
        TypeError: it decorates a class, a coroutine function or a generator function.

    >>> scores, labels = torch.zeros(8, 1), torch.ones(8)
    >>> with guard(on="log") as findings:
    ...     _ = torch.nn.functional.poisson_nll_loss(scores, labels)
    >>> findings[0].shapes, findings[0].error.fixes[0]
    ({'input': (8, 1), 'target': (8,)}, 'target.unsqueeze(1)')
    >>> findings[0].fix
    'torch.nn.functional.poisson_nll_loss(scores, labels.unsqueeze(1))'
    """
    if on not in ("raise", "warn", "log"):
        raise ValueError(f"guard: on must be one of 'raise', 'warn', 'log'; it is {on!r}.")
    if isinstance(allow, str):
        raise ValueError(f"guard: allow must be several patterns; it is {allow!r}.")
    return Guard(on, arithmetic, tuple(allow))


class Guard(FunctionDecorator):
    """Watches calls while it is entered; each time it is entered its findings begin anew."""

    public_name = "guard"

    def __init__(self, on: On, arithmetic: bool, allow: tuple[str, ...]) -> None:
        self._options = on, arithmetic, allow
        self._watch: _Watch | None = None

    def _recreate_cm(self) -> "Guard":  # for each call of a decorated function
        return Guard(*self._options)

    def __enter__(self) -> Findings:
        if self._watch is not None:
            raise RuntimeError(
                "guard: this guard is active already; call `safeloss.guard()` again."
            )
        self._watch = _Watch(*self._options)
        self._watch.__enter__()
        return self._watch.findings

    def __exit__(self, *raised: object) -> None:
        if self._watch is not None:
            leave(self._watch)
            self._watch.watched.clear()  # it may be on the stack of another thread still
            self._watch = None


def allow() -> "Allowance":
    """What broadcasts inside it does so on purpose, and no guard finds it. Also a decorator.

    Raises:
        TypeError: it decorates a class, a coroutine function or a generator function.
    """
    return Allowance()


class Allowance(FunctionDecorator):
    """Silences guards while it is entered, in this thread or task."""

    public_name = "allow"

    def __enter__(self) -> None:
        _allowances.set((*_allowances.get(), self))

    def __exit__(self, *raised: object) -> None:
        # It may end before those that were entered later, and in another task. That rules out
        # `ContextVar.reset`, which would end the later ones too, or raise.
        active = list(_allowances.get())
        if self in active:
            active.remove(self)
            _allowances.set(tuple(active))


class _Watch(TorchFunctionMode):
    """The mode of one guard. Its `__enter__` and `__exit__` are torch's own, which Dynamo knows."""

    def __init__(self, on: On, arithmetic: bool, allow: tuple[str, ...]) -> None:
        super().__init__()
        self.on = on
        self.watched = {*native.SIGNATURES, *(FOLLOWED if arithmetic else ())}
        self.allow = allow
        self.findings = Findings()
        self.fine: set[Hashable] = set()  # what was looked at before
        self.proved: dict[tuple[str, Site], Memory] = {}  # by earlier calls of a loss at a place
        self.origins = Origins()
        self.outer: set[Site] = set()  # the places of operators that repeat what can be no target

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if is_dynamo_compiling() or func not in self.watched:
            return func(*args, **given)
        if func in native.SIGNATURES:
            suspect = self._loss(func, args, given)
        else:
            suspect = self._operator(func, args, given) if func in operators.OPERATORS else None
        if suspect is None:
            result = func(*args, **given)
        else:
            try:
                with allow():  # the innermost guard speaks
                    result = func(*args, **given)
            except Warning:  # an error by the user's filters, and no refusal of PyTorch's
                self._report(suspect)
                raise
            self._report(suspect)
        if func in FOLLOWED:
            self.origins.follow(func, args, given, result)
        return result

    def _loss(self, func: Any, args: Any, given: Mapping[str, Any]) -> Suspect | None:
        self.findings.calls += 1
        signature = native.SIGNATURES[func]
        defaults = {parameter.name: parameter.default for parameter in signature.parameters}
        named = {**defaults, **dict(zip(signature.names, args)), **given}
        key = native.key(signature, named)
        by = caller() if signature.name in native.NEEDS_EVIDENCE else None
        place = None if by is None else by.site
        if key is not None and (key, place) in self.fine:
            return None
        by = by or caller()
        if by is None or self._passes(by.line):
            return None
        evidence = self.proved.setdefault((signature.name, by.site), Memory())
        with unobserved():
            call = native.call(signature, named, evidence)
            verdict = None if call is None else native.verdict(signature, call)
        if call is None or verdict is None:
            return None
        if isinstance(verdict, Reading):
            native.learn(signature, evidence, call, verdict)
            if key is not None and (place is not None or verdict.proves is None):
                self._remember((key, place))
            return None
        callee = native.callee(signature, by.module)
        tensors = {key: named[key] for key in call.shapes}
        explain = functools.partial(native.found, by, tensors, signature, callee, call, verdict)
        return Suspect(by, callee.name, tensors, explain)

    def _operator(self, func: Any, args: Any, given: Mapping[str, Any]) -> Suspect | None:
        pair = operators.find_pair(func, args, given)
        by = None if pair is None else caller(directly=True)
        if pair is None or by is None or self._passes(by.line):
            return None
        if not pair.same_up_to_ones:
            # Here all meet all, and so they did before where sizes were equal.
            self.outer.add(by.site)
            self.findings.withdraw(by.site)
        if by.site in self.outer or not operators.is_accident(pair, self.origins, by.frame):
            return None
        explain = functools.partial(operators.error_for, pair, self.origins, by.frame)
        return Suspect(by, pair.operator, pair.tensors, explain)

    def _remember(self, key: Hashable) -> None:
        if len(self.fine) >= _MOST_FINE:
            self.fine.clear()
        self.fine.add(key)

    def _passes(self, line: Line) -> bool:
        return bool(_allowances.get()) or any(fnmatch(line.file, pattern) for pattern in self.allow)

    def _report(self, suspect: Suspect) -> None:
        known = self.findings.like(suspect)
        if known is not None:
            known.count += 1
            if self.on != "raise":
                return
        with unobserved():
            error = with_history(suspect.explain(), suspect.tensors)
        if known is None:
            known = self.findings.add(suspect, error)
        if self.on == "raise":
            raise error from None
        if self.on == "warn":
            warn(str(error), frame=suspect.by.frame)
