"""A call of a signature that was not seen before: read, verified, run, and remembered."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from safeloss._contract import codes
from safeloss._contract.contract import Decision
from safeloss._contract.model import Call, Reading, Refusal
from safeloss._contract.options import AT_CALL
from safeloss._messages.stack import warn_once
from safeloss._runtime.evidence import evidence_of
from safeloss._runtime.memory import MOST_LOOKS, NO_PLANS, Memory, Plans
from safeloss._runtime.native_errors import as_the_user_gets_it, explain_native_error
from safeloss._runtime.reductions import COUNT_ADVICE, broken_count_rule, native_reduction
from safeloss._runtime.runner import Arguments, Look, Runner, runner
from safeloss._runtime.signature import Named, Signature
from safeloss._runtime.validate import (
    look_at_values,
    name_of,
    ours,
    refusal_of,
    verify_hints,
    verify_mean,
    verify_types,
    verify_values,
)
from safeloss._torch import decided, outside_compiler, readable, transformed, unobserved
from safeloss.errors import SafeLossError, ValueRangeError


@outside_compiler
def new_call(
    signature: Signature,
    attributes: tuple[str, ...],
    key_of: Callable[..., Any],
    owner: Any,
    arguments: Arguments,
    key: Any,
) -> Tensor:
    """A call of a signature that was not seen before.

    `owner` is the module, or None; `attributes` are where it keeps its options. `key` is what the
    generated function looks the call up by, or None: `key_of` makes it of all arguments.
    """
    for argument in arguments:
        if isinstance(argument, Proxy):
            return _recorded(signature, owner, arguments)
    evidence = evidence_of(signature, owner)
    plans = signature.memory.plans if owner is None else evidence.plans
    run: Runner | None = None
    computed = owner is not None and _computes(owner, attributes)
    if key is None or computed:
        # No tensor where one is declared, a call not seen before, an option without a hash.
        with contextlib.suppress(AttributeError, KeyError, TypeError):
            # What a property computes is not where a hit looks for it.
            key = (*key_of(*arguments), "computed") if computed else key_of(*arguments)
            plan: Runner | int | None = plans[key]
            run = runner(signature) if plan is None or isinstance(plan, int) else plan
    learn: Callable[[Any], None] = _nothing
    if run is None:
        try:
            with unobserved() as traced:
                run, learn = _plan(signature, owner, evidence, arguments, key, traced)
        except SafeLossError as refusal:
            raise as_the_user_gets_it(refusal, signature, arguments) from None
    try:
        loss = run(owner, arguments)
    except Exception as error:
        explain_native_error(signature, owner, arguments, error)
        raise
    try:
        learn(loss)  # only now: a call that raised proves nothing
    except SafeLossError as refusal:
        raise as_the_user_gets_it(refusal, signature, arguments) from None
    return loss


def _computes(owner: Any, attributes: tuple[str, ...]) -> bool:
    """Whether a subclass computes an attribute, by a property, that a hit would read as stored."""
    if type(owner) is ours(owner):
        return False
    return any(hasattr(getattr(type(owner), name, None), "__set__") for name in attributes)


def _nothing(loss: Any) -> None:
    pass


def _plan(
    signature: Signature,
    owner: Any,
    evidence: Memory,
    arguments: tuple[Any, ...],
    key: Any,
    traced: bool,
) -> tuple[Runner, Callable[[Any], None]]:
    """What the call needs, verified, and what is learnt from its result once it has run."""
    name = name_of(signature, owner)
    named = dict(zip(signature.names, arguments))
    verify_types(signature, owner, named)
    call = signature.call(evidence, named)
    decision = signature.decide(call)
    if isinstance(decision, Refusal) and decision.weak:
        decision = _one_class(signature, name, evidence, call, named, decision, traced)
    if isinstance(decision, Refusal):
        raise refusal_of(signature, owner, call, decision, named)
    reading, strategy = decision
    symbolic = any(isinstance(size, torch.SymInt) for s in call.shapes.values() for size in s)
    if not symbolic:
        verify_hints(signature, owner, call, reading, signature.aligned(reading, named))
    for mistake in signature.reader.warnings(call):
        warn_once(f"{name}: {mistake.rule}", code=mistake.code)
    loud = call.options.get("empty") in ("warn", "raise")
    empty = signature.is_empty_mean(reading, call) if loud else False

    always = call.options.get("check_values") == "always"
    looks = 0
    if call.options.get("check_values") == "first" and not traced:
        if (
            evidence.values_unchecked
            and not look_at_values(signature, owner, reading, named).conclusive
        ):
            looks = MOST_LOOKS
        elif evidence.looks:
            look = verify_values(signature, owner, reading, named, rules=False)
            looks = 0 if look.conclusive else evidence.looks - 1
    steps = tuple(
        (signature.names.index(name), step)
        for name, edit in reading.edits.items()
        for step in edit.steps(call.shapes[name])
    )
    fills = tuple(
        (signature.names.index(name), masked)
        for name, masked in reading.masked.items()
        if masked.value is not None
    )
    reduction = native_reduction(strategy) if strategy else call.options.get("reduction", "")
    code = None if always else signature.reduction_code(call, reduction)
    watching = [_look(signature, reading)] if always else []
    if "divided" in strategy:
        watching.append(_look_at_count(signature))
    run = runner(signature, steps, fills, strategy, code, watching)
    first = run
    if signature.own is not None and not symbolic:
        sizes = signature.unreduced_axes(reading, call).shape
        kernel: Any = signature.kernel
        verifying = replace(signature, kernel=kernel.verifying(tuple(sizes)))
        first = runner(verifying, steps, fills, strategy, code, watching)
    # A tensor would be known by its identity, and may count otherwise tomorrow.
    integers = [parameter.name for parameter in signature.parameters if parameter.integer]
    counted = not any(isinstance(call.options[name], Tensor) for name in integers)
    # What one class means is known to the place of a call, and a hit of a function has none.
    lasting = counted and not (owner is None and reading.one_class)
    # Nor is what warns remembered: another place that calls the loss is to hear of it too.
    lasting = lasting and not (key is None or symbolic or traced or transformed())
    lasting = lasting and not looks and empty is False
    fixed = always or any(
        edit.names_sizes(call.shapes[name]) for name, edit in reading.edits.items()
    )

    def learn(loss: Any) -> None:
        verify_mean(signature, owner, call, named, empty, loss)
        memory = signature.memory if owner is None else evidence
        evidence.values_unchecked, evidence.looks, evidence.one_class = False, looks, True
        if reading.proves is not None:
            shape = call.shapes[signature.reader.inputs[0].name]
            memory.learn_class_axis(len(shape), shape[reading.proves])
        if memory.plans is NO_PLANS:
            memory.plans = Plans(memory)
        if lasting:
            plain = not (reading.edits or fills or strategy or always)
            kept = code if plain else run
            with contextlib.suppress(TypeError):  # an option without a hash: read on every call
                memory.plans.keep(key, kept)
                if not fixed and not reading.one_class:
                    memory.plans.keep_form(key, kept, reading.proves)

    return first, learn


def _look(signature: Signature, reading: Reading) -> Look:
    """What looks at the numbers of every call."""

    def look(owner: Any, arguments: Arguments) -> None:
        with unobserved() as traced:
            if not traced:
                named = dict(zip(signature.names, arguments))
                look_at_values(signature, owner, reading, named)

    return look


def _look_at_count(signature: Signature) -> Look:
    """What refuses a count of 0 that is a number. One in a tensor is not read from the device."""
    position = signature.names.index("denominator")

    def look(owner: Any, arguments: Arguments) -> None:
        count = arguments[position]
        if isinstance(count, Tensor):
            return
        symbolic = isinstance(count, (torch.SymInt, torch.SymFloat))
        rule = broken_count_rule(count, decided if symbolic else bool)
        if rule:
            name = name_of(signature, owner)
            raise ValueRangeError.about(name, rule, code=codes.DENOMINATOR, advice=COUNT_ADVICE)

    return look


def _one_class(
    signature: Signature,
    name: str,
    evidence: Memory,
    call: Call,
    named: Named,
    refusal: Refusal,
    traced: bool,
) -> Refusal | Decision:
    """`call` with a single class, where that is no mistake: the classes may be candidates, of which
    a last batch has one. Labels other than 0 show that it is one."""
    target = named[signature.reader.target]
    if traced or not readable([target]):
        allowed = signature.has_one_label(call)
    else:
        allowed = not (target.is_floating_point() or target.is_complex() or target.any())
        if allowed:
            warn_once(
                f"{name}: {refusal.rule} It is right only where the classes are candidates.",
                code=refusal.code,
            )
    if not allowed:
        return refusal
    allowing = Memory(one_class=True, class_axes=evidence.class_axes)
    return signature.decide(call._replace(evidence=allowing))


def _recorded(signature: Signature, owner: Any, arguments: tuple[Any, ...]) -> Any:
    """`torch.fx` traces into what is not torch's: be a leaf, as native is, and keep the check."""
    proxies = [argument for argument in arguments if isinstance(argument, Proxy)]
    tracer: Any = proxies[0].tracer
    overridden = owner is not None and type(owner).forward is not ours(owner).forward
    if owner is not None and owner is not tracer.root and not overridden:
        path = tracer.path_of_module(owner)
        named = dict(zip(signature.names, arguments))
        taken = [name for name in owner.forward.inputs if name not in AT_CALL]
        extra = {name: named[name] for name in AT_CALL if named.get(name) is not None}
        return tracer.create_proxy("call_module", path, tuple(named[n] for n in taken), extra)
    required = len([p for p in signature.parameters if p.default is Parameter.empty])
    options = {
        p.name: value  # a proxy cannot be compared
        for p, value in zip(signature.parameters[required:], arguments[required:])
        if value is not p.default
    }
    kernel = signature.kernel
    function = signature.own or getattr(sys.modules[kernel.__module__], kernel.__name__)
    return tracer.create_proxy("call_function", function, arguments[:required], options)
