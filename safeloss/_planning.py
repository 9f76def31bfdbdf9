"""A call of a signature that was not seen before: read, verified, run, and remembered."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.overrides import has_torch_function

from safeloss._call import Reading, Refusal
from safeloss._explaining import (
    add_note,
    explain_devices,
    is_about_arguments,
    is_about_values,
    table,
)
from safeloss._frames import warn_once
from safeloss._memory import Memory
from safeloss._module import memory_of
from safeloss._signature import Signature, Sources, averaged, validate, validate_integers
from safeloss._torch import outside_compiler, transformed, unobserved
from safeloss._trace import with_history
from safeloss._verifying import (
    face_of,
    look_at_values,
    name_of,
    ours,
    refusal_of,
    verify_hints,
    verify_types,
    verify_values,
)
from safeloss.errors import SafeLossError

EMPTY_MEAN = "this is a mean over zero elements, which is NaN."
ZERO_INSTEAD = ' `empty="zero"` makes it a zero that is connected to the graph.'


class Plan(NamedTuple):
    """What a call of a known signature needs besides the kernel."""

    signature: Signature
    strategy: str  # of the mean: see `Signature.mean_strategy`
    reading: Reading | None  # where the values of every call are looked at
    number: int | None  # torch's, of the reduction, where the operator alone will do
    steps: tuple[tuple[int, Callable[[Tensor], Tensor]], ...]  # views and casts, by position

    def __call__(self, owner: Any, arguments: tuple[Any, ...]) -> Tensor:
        signature = self.signature
        if self.reading is not None:
            with unobserved() as traced:
                if not traced:
                    given = dict(zip(signature.names, arguments))
                    look_at_values(signature, owner, self.reading, given)
        moved = [*arguments, None]
        for position, step in self.steps:
            moved[position] = step(moved[position])
        if not (self.strategy or signature.by_name):
            operator = signature.operator
            if operator is not None and self.number is not None and not has_torch_function(moved):
                moved[signature.reduction] = self.number
                return operator(*[moved[i] for i in signature.taken])
            return signature.kernel(*[moved[i] for i in signature.slots])
        named = dict(zip(signature.names, moved))
        by_position, by_name = signature.given(self.strategy, named)
        loss = signature.kernel(*by_position, **by_name)
        if not self.strategy:
            return loss
        return averaged(loss, signature.total, self.strategy, named)


@outside_compiler
def new_call(signature: Signature, sources: Sources, given: tuple[Any, ...], key: Any) -> Tensor:
    """A call of a signature that was not seen before.

    `given` is what its face was given, after the module or None, and `key` what it looks the call
    up by, or None.
    """
    owner = given[0]
    memory = signature.memory if owner is None else memory_of(owner)
    arguments = tuple(sources.arguments(given))
    if any(isinstance(argument, Proxy) for argument in arguments):
        return _recorded(signature, owner, arguments)
    run: Plan | None = None
    if key is None or _computed(sources, owner):
        key = signature.key(arguments)
        with contextlib.suppress(KeyError, TypeError):  # not seen before, or not hashable
            run = _known(signature, memory.plans[key])
    learn = _nothing
    if run is None:
        try:
            with unobserved() as traced:
                run, learn = _plan(signature, owner, memory, arguments, key, traced)
        except SafeLossError as refusal:
            raise _told(refusal, signature, arguments) from None
    try:
        loss: Tensor = run(owner, arguments)
    except Exception as error:
        explain_native_error(signature, sources, given, error)
        raise
    learn()  # only now: a call that raised proves nothing
    return loss


def explain_native_error(
    signature: Signature, sources: Sources, given: tuple[Any, ...], error: Exception
) -> None:
    """Raise an error of ours in the place of `error` where the arguments break a declared rule.

    Otherwise `error` is left to be raised again, with a note of what the loss was called with.
    """
    if isinstance(error, SafeLossError) or not is_about_arguments(error):
        return
    owner, arguments = given[0], tuple(sources.arguments(given))
    with unobserved() as traced:
        explained = None if traced else _explained(signature, owner, arguments, error)
    if explained is not None:
        try:
            raise _told(explained, signature, arguments) from None
        finally:
            del explained  # which would hold this frame, and this frame it, and all tensors


def _computed(sources: Sources, owner: Any) -> bool:
    """Whether a subclass computes an attribute, by a property, that a hit would read as stored."""
    if owner is None or type(owner) is ours(owner):
        return False
    attributes = [source[1] for source in sources.each if source is not None and source[1]]
    return any(hasattr(getattr(type(owner), name, None), "__set__") for name in attributes)


def _known(signature: Signature, plan: Any) -> Plan:
    """The plan of a call that is known, though its face cannot look it up: where a module keeps
    what is given elsewhere than native does, as a parameter or a property."""
    return plan if isinstance(plan, Plan) else Plan(signature, "", None, None, ())


def _nothing() -> None:
    pass


def _told(
    refusal: SafeLossError, signature: Signature, arguments: tuple[Any, ...]
) -> SafeLossError:
    """`refusal` as the user gets it: with histories, and ending where the loss was called."""
    told = with_history(refusal, dict(zip(signature.names, arguments)))
    return told.with_traceback(None)


def _plan(
    signature: Signature,
    owner: Any,
    memory: Memory,
    arguments: tuple[Any, ...],
    key: Any,
    traced: bool,
) -> tuple[Plan, Callable[[], None]]:
    """What the call needs, verified, and what is learnt from it once it has run."""
    name = name_of(signature, owner)
    named = dict(zip(signature.names, arguments))
    verify_types(signature, name, named)
    call = signature.call(None if owner is None else memory, named)
    validate(name, signature.choices, call.options, owner is not None)
    validate_integers(name, signature, call.options)
    reading = signature.reader.read(call)
    if isinstance(reading, Refusal):
        raise refusal_of(signature, owner, call, reading)
    strategy = signature.mean_strategy(reading, call)
    if isinstance(strategy, Refusal):
        raise refusal_of(signature, owner, call, strategy)
    symbolic = any(isinstance(size, torch.SymInt) for s in call.shapes.values() for size in s)
    if not symbolic:
        verify_hints(signature, owner, call, reading, signature.edited(reading, named))
    for text in signature.reader.warnings(call):
        warn_once(f"{name}: {text}")
    warns = call.options.get("empty") == "warn" and signature.is_empty_mean(reading, call)
    if warns:
        instead = ZERO_INSTEAD if "zero" in dict(signature.choices)["empty"] else ""
        warn_once(f"{name}: {EMPTY_MEAN}{instead}")

    always = call.options.get("check_values") == "always"
    if call.options.get("check_values") == "first" and memory.unread and not traced:
        look_at_values(signature, owner, reading, named)
    steps = tuple(
        (signature.names.index(name), step)
        for name, edit in reading.edits.items()
        for step in edit.steps(call.shapes[name])
    )
    number = None if strategy or always else signature.number(call)
    plan = Plan(signature, strategy, reading if always else None, number, steps)
    # A tensor would be known by its identity, and may count otherwise tomorrow.
    counted = not any(isinstance(call.options[name], Tensor) for name, _ in signature.integers)
    # Nor is what warns remembered: another place that calls the loss is to hear of it too.
    lasting = counted and not (key is None or symbolic or traced or transformed() or warns)
    fixed = always or any(
        edit.names_sizes(call.shapes[name]) for name, edit in reading.edits.items()
    )

    def learn() -> None:
        memory.unread = False
        if reading.settles and owner is not None:
            memory.settled = True
        if lasting:
            kept = plan if reading.edits or strategy or always else number
            with contextlib.suppress(TypeError):  # an option without a hash: read on every call
                memory.plans.keep(key, kept)
                if not fixed:
                    memory.plans.keep_form(key, kept)

    return plan, learn


def _explained(
    signature: Signature, owner: Any, arguments: tuple[Any, ...], error: Exception
) -> SafeLossError | None:
    """Our error for a rule that the arguments break and native noticed; else a note on `error`."""
    named = dict(zip(signature.names, arguments))
    call = signature.call(None if owner is None else memory_of(owner), named)
    reading = signature.reader.read(call)
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    rows = table(signature.reader.inputs, call)
    if is_about_values(error) and not isinstance(reading, Refusal):
        try:
            verify_values(signature, owner, reading, named)
        except SafeLossError as broken:
            return broken
    face = face_of(signature, owner)
    explained = explain_devices(face, rows, tensors, error)
    if explained is None:
        add_note(face, rows, error)
    return explained


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
