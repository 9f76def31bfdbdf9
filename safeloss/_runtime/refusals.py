"""What a refusal is made of: who was called, and a trial of the fixes that it may offer."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safeloss._contract.contract import Decision
from safeloss._contract.model import Call, Input, Refusal
from safeloss._contract.patterns import is_bearable
from safeloss._contract.values import NotNaN, Rule
from safeloss._messages.explain import explain
from safeloss._messages.fixes import Callee, Trial
from safeloss._runtime.accepted import Accepted
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import readable
from safeloss.errors import SafeLossError


def is_accepted(signature: Signature, named: Named) -> bool:
    """Whether a call would be: by types, layout and, where they can be read, its numbers."""
    if no_tensors(signature, named):
        return False
    call = signature.call(None, named)
    decision = signature.decide(call)
    if isinstance(decision, Refusal):
        return False
    accepted = Accepted(signature, None, named, call, *decision)
    return not (accepted.readable and accepted.broken())


def could_be(entry: Input, tensor: Tensor) -> bool:
    """Whether `tensor` may be this argument of some call."""
    return any(
        tensor.dtype in pattern.dtypes
        and (pattern.broadcast or pattern.match(tensor.shape, {}) is not None)
        for pattern in entry.patterns
    )


def trial_of(signature: Signature, named: Named) -> Trial:
    """What fixes of a call are tried with."""
    tensors = [value for value in named.values() if isinstance(value, Tensor)]

    def accepts(changes: Mapping[str, Any]) -> bool:
        return is_accepted(signature, {**named, **changes})

    return Trial(named, readable(tensors), accepts, _enters)


def _enters(loss: Any, *arguments: Any, **options: Any) -> bool:
    """Whether `loss`, a module or a function of ours, accepts these arguments."""
    if not isinstance(loss, torch.nn.Module):
        bound = inspect.signature(loss.signature.kernel).bind(*arguments, **options)
        bound.apply_defaults()
        return is_accepted(loss.signature, dict(bound.arguments))
    forward: Any = loss.forward
    given = {**dict(zip(forward.inputs, arguments)), **options}
    held = {p.name: getattr(loss, p.name, p.default) for p in forward.signature.parameters}
    return is_accepted(forward.signature, {**held, **given})


def refusal_of(
    signature: Signature, owner: Any, call: Call, refusal: Refusal, named: Named
) -> SafeLossError:
    def accepts(other: Call) -> bool:
        return isinstance(signature.decide(other._replace(evidence=None)), Decision)

    tensors = [value for value in named.values() if isinstance(value, Tensor)]
    trial = trial_of(signature, named) if readable(tensors) else None
    inputs, target = signature.reader.inputs, swappable(signature)
    return explain(callee_of(signature, owner), inputs, call, refusal, accepts, trial, target)


def callee_of(signature: Signature, owner: Any) -> Callee:
    native = signature.native_name
    if owner is None:
        own = signature.own
        callee = signature.name if own else f"safeloss.functional.{signature.name}"
        return Callee(signature.name, callee, False, signature.kernel, native, own)
    kind = ours(owner)
    own = kind if signature.own else None
    return Callee(type(owner).__name__, kind.__name__, True, signature.kernel, native, own)


def ours(module: Any) -> Any:
    """The class of ours, which a user can name: that of the module may be a subclass of theirs."""
    return module._safeloss_class


def name_of(signature: Signature, owner: Any) -> str:
    return signature.name if owner is None else type(owner).__name__


def no_tensors(signature: Signature, named: Named) -> list[str]:
    """The arguments that are no tensors, nor anything else that is declared."""
    return [
        entry.name
        for entry in signature.reader.inputs
        if not isinstance(named[entry.name], Tensor)
        and not (entry.weight and named[entry.name] is None)
        and not is_bearable(named[entry.name], entry.hint)
    ]


def swappable(signature: Signature) -> str:
    """The target, if its numbers mean something else than those of the first argument."""
    target = next(x for x in signature.reader.inputs if x.name == signature.reader.target)
    if target is signature.reader.inputs[0]:
        return ""  # it is the only one
    rules = [rule for pattern in target.patterns for rule in pattern.rules]
    special = any(isinstance(rule, Rule) and not isinstance(rule, NotNaN) for rule in rules)
    return target.name if special else ""
