"""A call of a signature that was not seen before: read, verified, and remembered."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.overrides import has_torch_function

from safeloss._call import Reading, Refusal
from safeloss._explaining import explain_failure, table
from safeloss._frames import warn
from safeloss._signature import Signature, Sources, averaged, validate, validate_integers
from safeloss._torch import outside_compiler, transformed, unobserved
from safeloss._trace import with_history
from safeloss._verifying import (
    face_of,
    name_of,
    ours,
    refusal_of,
    verify_hints,
    verify_types,
    verify_values,
)
from safeloss.errors import SafeLossError


class Plan(NamedTuple):
    """What a call of a known signature needs besides the kernel."""

    signature: Signature
    reading: Reading
    zero: str
    values: bool  # read them on every call
    number: int | None  # torch's, of the reduction, where the operator alone will do
    steps: tuple[tuple[int, Callable[[Tensor], Tensor]], ...]  # views and casts, by position

    def __call__(self, owner: Any, arguments: tuple[Any, ...]) -> Tensor:
        signature = self.signature
        if self.values:
            with unobserved() as traced:
                if not traced:
                    given = dict(zip(signature.names, arguments))
                    verify_values(signature, owner, self.reading, given)
        moved = [*arguments, None]
        for position, step in self.steps:
            moved[position] = step(moved[position])
        if not (self.zero or signature.by_name):
            operator = signature.operator
            if operator is not None and self.number is not None and not has_torch_function(moved):
                moved[signature.reduction] = self.number
                return operator(*[moved[i] for i in signature.taken])
            return signature.kernel(*[moved[i] for i in signature.slots])
        named = dict(zip(signature.names, moved))
        by_position, by_name = signature.given(self.zero, named)
        loss = signature.kernel(*by_position, **by_name)
        return averaged(loss, signature.total, self.zero, named) if self.zero else loss


@outside_compiler
def new_call(signature: Signature, sources: Sources, given: tuple[Any, ...], key: Any) -> Tensor:
    """A call of a signature that was not seen before, or that native refused.

    `given` is what its face was given, after the module or None, and `key` what it looks the call
    up by, or None.
    """
    owner, arguments = given[0], tuple(sources.arguments(given))
    if any(isinstance(argument, Proxy) for argument in arguments):
        return _recorded(signature, owner, arguments)
    if key is None or _computed(sources, owner):
        key = signature.key(arguments)
        with contextlib.suppress(Exception):  # as in a face
            memory = signature.memory if owner is None else owner._memory
            return _hit(signature, owner, arguments, memory.plans[key])
    try:
        with unobserved() as traced:
            plan = _plan(signature, owner, arguments, key, traced)
    except SafeLossError as refusal:
        raise _told(refusal, signature, arguments) from None
    try:
        return plan(owner, arguments)
    except Exception as error:  # whatever native raises, and only what is about arguments is ours
        with unobserved() as traced:
            explained = None if traced else _explained(signature, owner, plan, arguments, error)
        if explained is None:
            raise
        raise _told(explained, signature, arguments) from None


def _computed(sources: Sources, owner: Any) -> bool:
    """Whether a subclass computes an attribute, by a property, that a hit would read as stored."""
    if owner is None or type(owner) is ours(owner):
        return False
    attributes = [source[1] for source in sources.each if source is not None and source[1]]
    return any(hasattr(getattr(type(owner), name, None), "__set__") for name in attributes)


def _hit(signature: Signature, owner: Any, arguments: tuple[Any, ...], known: Any) -> Tensor:
    """A call that is known, though its face cannot look it up: where a module keeps what is given
    elsewhere than native does, as a parameter or a property."""
    if isinstance(known, Plan):
        return known(owner, arguments)
    named = dict(zip(signature.names, arguments))
    by_position, by_name = signature.given("", named)
    return signature.kernel(*by_position, **by_name)


def _told(
    refusal: SafeLossError, signature: Signature, arguments: tuple[Any, ...]
) -> SafeLossError:
    """`refusal` as the user gets it: with histories, and ending where the loss was called."""
    told = with_history(refusal, dict(zip(signature.names, arguments)))
    return told.with_traceback(None)


def _plan(
    signature: Signature, owner: Any, arguments: tuple[Any, ...], key: Any, traced: bool
) -> Plan:
    """What the call needs, verified, and remembered where it means the same the next time."""
    name = name_of(signature, owner)
    memory = signature.memory if owner is None else owner._memory
    named = dict(zip(signature.names, arguments))
    verify_types(signature, name, named)
    call = signature.call(None if owner is None else memory, named)
    validate(name, signature.choices, call.options, owner is not None)
    validate_integers(name, signature, call.options)
    reading = signature.reader.read(call)
    if isinstance(reading, Refusal):
        raise refusal_of(signature, owner, call, reading)
    zero = signature.zero(reading, call)
    if isinstance(zero, Refusal):
        raise refusal_of(signature, owner, call, zero)
    symbolic = any(isinstance(size, torch.SymInt) for s in call.shapes.values() for size in s)
    if not symbolic:
        verify_hints(signature, owner, call, reading, signature.edited(reading, named))
    for text in signature.reader.warnings(call):
        warn(f"{name}: {text}")

    always = call.options.get("check_values") == "always"
    unread = call.options.get("check_values") == "first" and memory.unread
    if unread and not traced and verify_values(signature, owner, reading, named):
        memory.unread = unread = False
    if reading.settles and owner is not None:
        memory.settled = True
    steps = tuple(
        (signature.names.index(name), step)
        for name, edit in reading.edits.items()
        for step in edit.steps(call.shapes[name])
    )
    number = None if zero or always else signature.number(call)
    plan = Plan(signature, reading, zero, always, number, steps)
    # A tensor would be known by its identity, and may count otherwise tomorrow.
    counted = not any(isinstance(call.options[name], Tensor) for name, _ in signature.integers)
    if counted and not (key is None or unread or symbolic or traced or transformed()):
        plain = not (reading.edits or zero or always)
        kept = number if plain else plan
        with contextlib.suppress(TypeError):  # an option without a hash: read on every call
            memory.plans.keep(key, kept)
            if not always and not any(
                edit.names_sizes(call.shapes[name]) for name, edit in reading.edits.items()
            ):
                memory.plans.keep_form(key, kept)
    return plan


def _explained(
    signature: Signature,
    owner: Any,
    plan: Plan,
    arguments: tuple[Any, ...],
    error: Exception,
) -> SafeLossError | None:
    """Our error for what native refused; None for what is not about the arguments."""
    if isinstance(error, SafeLossError):
        return error
    named = dict(zip(signature.names, arguments))
    try:
        verify_values(signature, owner, plan.reading, named)
    except SafeLossError as broken:
        return broken
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    rows = table(signature.reader.inputs, signature.call(None, named))
    return explain_failure(face_of(signature, owner), rows, tensors, error)


def _recorded(signature: Signature, owner: Any, arguments: tuple[Any, ...]) -> Any:
    """`torch.fx` traces into what is not torch's: be a leaf, as native is, and keep the check."""
    proxies = [argument for argument in arguments if isinstance(argument, Proxy)]
    tracer: Any = proxies[0].tracer
    overridden = owner is not None and type(owner).forward is not ours(owner).forward
    if owner is not None and owner is not tracer.root and not overridden:
        path = tracer.path_of_module(owner)
        named = dict(zip(signature.names, arguments))
        inputs = tuple(named[name] for name in owner.forward.inputs)
        return tracer.create_proxy("call_module", path, inputs, {})
    required = len([p for p in signature.parameters if p.default is p.empty])
    options = {
        # "first" is the modules' alone; a proxy cannot be compared.
        p.name: "never" if isinstance(value, str) and value == "first" else value
        for p, value in zip(signature.parameters[required:], arguments[required:])
        if value is not p.default
    }
    function = getattr(sys.modules[signature.kernel.__module__], signature.kernel.__name__)
    return tracer.create_proxy("call_function", function, arguments[:required], options)
