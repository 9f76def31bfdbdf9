"""A call of a native loss, read by the signature of ours: does PyTorch compute what ours would?"""

import math
from collections.abc import Hashable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from safeloss import functional
from safeloss._contract import codes
from safeloss._contract.contract import Decision
from safeloss._contract.model import Call, Reading, Refusal
from safeloss._contract.patterns import Shape
from safeloss._guard import arithmetic
from safeloss._guard.caller import Caller
from safeloss._messages.call_site import in_users_names
from safeloss._messages.explain import explain
from safeloss._messages.fixes import Callee, whole_call
from safeloss._runtime.memory import Memory
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import tracing, transformed, unhandled
from safeloss.errors import LayoutError, SafeLossError
from safeloss.losses import SAFE

KEYS = {name: getattr(functional, name).key for name in functional.__all__}
SIGNATURES: dict[Any, Signature] = {
    getattr(F, name): getattr(functional, name).signature
    for name in functional.__all__
    if hasattr(F, name)
}
_FILES = (F.__file__, nn.modules.loss.__file__)  # of PyTorch's losses
# The losses whose verdict may need what earlier calls at the same place have proved.
NEEDS_EVIDENCE = {
    signature.name
    for signature in SIGNATURES.values()
    if any(pattern.has("classes") for pattern in signature.reader.inputs[0].patterns)
}


def key(signature: Signature, named: Named) -> Hashable:
    """What the verdict depends on; None where it depends on more, or is not to be looked at."""
    if transformed() or tracing():
        return None
    tensors = [value for value in named.values() if isinstance(value, Tensor)]
    if any(type(tensor) not in (Tensor, nn.Parameter) for tensor in tensors):
        return None
    with unhandled():
        if any(tensor.is_nested for tensor in tensors):
            return None
        try:
            return signature.name, KEYS[signature.name](*[named[name] for name in signature.names])
        except AttributeError:
            return None


def call(signature: Signature, named: Named, evidence: Memory | None) -> Call | None:
    """What the verdict depends on; None where there is no tensor to bind the axes, or no sizes."""
    tensors = [value for value in named.values() if isinstance(value, Tensor)]
    bound = isinstance(named[signature.names[0]], Tensor)
    legible = bound and all(arithmetic.is_legible(tensor) for tensor in tensors)
    return signature.call(evidence, named) if legible else None


def verdict(signature: Signature, call: Call) -> Reading | Refusal | None:
    """Our reading, if PyTorch has the same; why the shapes have none; None for element types."""
    decision = signature.decide(call)
    if isinstance(decision, Refusal):
        return decision if issubclass(decision.error, LayoutError) else None
    reading = decision.reading
    first = signature.reader.inputs[0].name
    for name in reading.edits:
        if rule := _misread(first, name, reading, call.shapes[name]):
            shape = reading.edits[name].shape or call.shapes[first]
            fixes = (arithmetic.viewed(name, call.shapes[name], first, shape),)
            return Refusal(LayoutError, rule, code=codes.BROADCAST, fixes=fixes)
    return reading


def learn(signature: Signature, evidence: Memory, call: Call, reading: Reading) -> None:
    """Keep what an accepted call has proved of its place."""
    evidence.one_class = True  # no more a mistake: several were seen
    if reading.proves is not None:
        shape = call.shapes[signature.reader.inputs[0].name]
        evidence.learn_class_axis(len(shape), shape[reading.proves])


def _misread(first: str, name: str, reading: Reading, came: Shape) -> str:
    """What PyTorch makes of an argument that ours would align; empty if it makes the same."""
    spelled = reading.edits[name].shape
    if spelled is None:
        return ""
    if arithmetic.repeats(came, spelled):
        return f"`{first}` and `{name}` differ by axes of size 1, and broadcasting repeats both."
    by_class = all(reading.patterns[key].has("classes") for key in (first, name))
    if by_class and len(came) > len(spelled) and math.prod(came) > 1:
        return f"`{name}` has more axes than `{first}`, by which PyTorch counts to the classes."
    return ""


def callee(signature: Signature, module: Any) -> Callee:
    """The native loss that was called, and ours in its place."""
    native = signature.native_name
    kind = next((kind for kind in type(module).__mro__ if kind in SAFE), None)
    if kind is None:
        spelling = f"safeloss.functional.{signature.name}"
        return Callee(signature.name, spelling, False, signature.kernel, native)
    return Callee(
        type(module).__name__, SAFE[kind].__name__, True, signature.kernel, signature.native_name
    )


def found(
    by: Caller,
    tensors: Named,
    signature: Signature,
    callee: Callee,
    call: Call,
    refusal: Refusal,
) -> SafeLossError:
    """The error for a call that ours would read otherwise, in the names of the line that calls."""
    error = explained(signature, callee, call, refusal)
    return in_users_names(error, tensors, by.frame, _FILES.__contains__)


def explained(signature: Signature, callee: Callee, call: Call, refusal: Refusal) -> SafeLossError:
    """The same in the names of the parameters."""

    def accepts(other: Call) -> bool:
        return isinstance(verdict(signature, other), Reading)

    inputs = signature.reader.inputs
    error = explain(callee, inputs, call, refusal, accepts)
    if isinstance(signature.decide(call), Decision):  # ours would align it
        error.fixes = (*error.fixes, whole_call(callee, "", inputs, call))
    return error
