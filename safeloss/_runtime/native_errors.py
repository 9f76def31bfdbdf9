"""What is raised while PyTorch runs: it leaves as it is, or is explained once."""

from typing import Any

from torch import Tensor

from safeloss._contract.contract import Decision
from safeloss._messages.call_site import in_users_names
from safeloss._messages.explain import (
    add_note,
    explain_devices,
    explain_dtypes,
    is_about_arguments,
    is_about_values,
    table,
)
from safeloss._runtime.accepted import Accepted
from safeloss._runtime.evidence import memory_for_call
from safeloss._runtime.refusals import callee_of
from safeloss._runtime.signature import Signature
from safeloss._runtime.validate import verify_values
from safeloss._torch import outside_compiler, unobserved
from safeloss._trace import with_history
from safeloss.errors import SafeLossError


@outside_compiler
def explain_native_error(
    signature: Signature, owner: Any, arguments: tuple[Any, ...], error: Exception
) -> None:
    """Raise an error of ours in the place of `error` where the arguments break a declared rule.

    Otherwise `error` is left to be raised again, with a note of what the loss was called with.
    """
    if isinstance(error, SafeLossError) or not is_about_arguments(error):
        return
    with unobserved() as traced:
        explained = None if traced else _explained(signature, owner, arguments, error)
    if explained is not None:
        try:
            raise as_the_user_gets_it(explained, signature, arguments) from None
        finally:
            del explained  # which would hold this frame, and this frame it, and all tensors


def as_the_user_gets_it(
    refusal: SafeLossError, signature: Signature, arguments: tuple[Any, ...]
) -> SafeLossError:
    """`refusal` as the user gets it: in their own names, with histories, and ending where the loss
    was called."""
    named = dict(zip(signature.names, arguments))
    return with_history(in_users_names(refusal, named), named).with_traceback(None)


def _explained(
    signature: Signature, owner: Any, arguments: tuple[Any, ...], error: Exception
) -> SafeLossError | None:
    """Our error for a rule that the arguments break and PyTorch noticed; else a note on `error`."""
    named = dict(zip(signature.names, arguments))
    call = signature.call(memory_for_call(signature, owner), named)
    decision = signature.decide(call)
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    rows = table(signature.reader.inputs, call)
    if is_about_values(error) and isinstance(decision, Decision):
        try:
            verify_values(Accepted(signature, owner, named, call, *decision), ask=False)
        except SafeLossError as broken:
            broken.native = f"{signature.native_name} raises {type(error).__name__}."
            return broken
    callee = callee_of(signature, owner)
    explained = explain_devices(callee, rows, tensors, error)
    explained = explained or explain_dtypes(callee, rows, tensors, error)
    if explained is None:
        add_note(callee, rows, error)
    return explained
