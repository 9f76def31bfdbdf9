"""Why a script crashed, where a function of torch's refused what it was called with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

from safeloss import functional
from safeloss._contract import codes
from safeloss._contract.model import Refusal
from safeloss._guard import arithmetic, native
from safeloss._guard.caller import caller
from safeloss._messages.explain import describe, is_about_arguments, table
from safeloss._messages.fixes import whole_call
from safeloss._runtime.memory import Memory
from safeloss._torch import unobserved
from safeloss._trace import with_history
from safeloss.errors import Argument, LayoutError, SafeLossError


class _Raised(NamedTuple):
    """A call that raised."""

    error: Exception
    func: Any
    args: Sequence[Any]
    given: Mapping[str, Any]
    module: Any  # the loss of `torch.nn` that called, if one did


class Witness(TorchFunctionMode):
    """Remembers the last call of torch's functions that raised, and can say why it did."""

    def __init__(self) -> None:
        super().__init__()
        self.last: _Raised | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        try:
            return func(*args, **given)
        except Exception as error:  # it is noted, and raised again as it is
            by = caller()
            self.last = _Raised(error, func, args, given, None if by is None else by.module)
            raise

    def explain(self, error: BaseException) -> SafeLossError | None:
        """What was wrong with the call that ended in `error`; None if no call of torch's did."""
        last = self.last
        if last is None or last.error is not error or not is_about_arguments(last.error):
            return None
        if isinstance(error, SafeLossError):
            return None  # it explains itself
        with unobserved():
            signature = native.SIGNATURES.get(last.func)
            if signature is not None:
                defaults = {p.name: p.default for p in signature.parameters}
                named = {**defaults, **dict(zip(signature.names, last.args)), **last.given}
                explained = _of_loss(last.func, last.module, named)
                if explained is not None:
                    return with_history(explained, named)
            return _of_function(last)


def _of_loss(func: Any, module: Any, named: dict[str, Any]) -> SafeLossError | None:
    """What our loss says of the same arguments, or what it would have changed of them."""
    signature = native.SIGNATURES[func]
    call = native.call(signature, named, Memory())
    if call is None:
        return None
    decision, callee = signature.decide(call), native.callee(signature, module)
    if isinstance(decision, Refusal):
        return native.explained(signature, callee, call, decision)
    edits = decision.reading.edits
    if not edits:
        try:
            getattr(functional, signature.name)(**named)
        except SafeLossError as broken:
            return broken
        except Exception as error:  # what PyTorch raises, which nothing here explains
            if not is_about_arguments(error):
                raise
        return None
    fixes = []
    for name, edit in edits.items():
        steps = [*edit.moves(call.shapes[name]), *edit.casts("")]
        code = [f".{method}({', '.join(map(repr, args))})" for method, args in steps]
        fixes.append("".join([name, *code]))
    inputs = signature.reader.inputs
    return LayoutError.about(
        callee.name,
        f"PyTorch does not take {' and '.join(f'`{name}`' for name in edits)} as it is, "
        f"and {callee.spelling} does.",
        code=codes.DO_NOT_FIT,
        arguments=table(inputs, call),
        fixes=(*fixes, whole_call(callee, "", inputs, call)),
    )


def _of_function(last: _Raised) -> SafeLossError | None:
    """The tensors of a call, and what made them what they are."""
    names = arithmetic.OPERATORS.get(last.func, ())
    listed = dict(enumerate(names))
    named = {listed.get(i, f"argument {i + 1}"): value for i, value in enumerate(last.args)}
    tensors = {k: v for k, v in {**named, **last.given}.items() if isinstance(v, Tensor)}
    rows = [
        Argument(name, describe(value.dtype, value.shape), "")
        for name, value in tensors.items()
        if arithmetic.is_legible(value)
    ]
    if not rows:
        return None
    rule = "PyTorch does not take these tensors together."
    name = arithmetic.operator_name(last.func)
    error = SafeLossError.about(name, rule, code=codes.DO_NOT_FIT, arguments=tuple(rows))
    return with_history(error, tensors)
