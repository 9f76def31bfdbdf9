"""The slow path of a call, after a look-up that found nothing: verified, run, and remembered."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from safeloss._contract import codes
from safeloss._contract.options import AT_CALL
from safeloss._runtime.accepted import Accepted
from safeloss._runtime.evidence import memory_for_call
from safeloss._runtime.memory import MOST_CHECKS, UNKNOWN, Memory
from safeloss._runtime.native_errors import as_the_user_gets_it, explain_native_error
from safeloss._runtime.reductions import COUNT_ADVICE, broken_count_rule, native_reduction
from safeloss._runtime.refusals import name_of, ours
from safeloss._runtime.runner import Arguments, Check, Runner, runner
from safeloss._runtime.signature import Signature
from safeloss._runtime.validate import accept, check_values, verify_mean, warn_of_values
from safeloss._torch import decided, outside_compiler, transformed, unobserved
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
    """A call that the look-up did not find.

    `owner` is the module, or None; `attributes` are where it keeps its options. `key` is what the
    generated function looks the call up by, or None: `key_of` makes it of all arguments.
    """
    for argument in arguments:
        if isinstance(argument, Proxy):
            return _fx_node(signature, owner, arguments)
    memory = memory_for_call(signature, owner)
    plans = signature.memory.plans if owner is None else memory.plans
    run: Runner | None = None
    computed = owner is not None and _computes(owner, attributes)
    if key is None or computed:
        # No tensor where one is declared, a call not seen before, an option without a hash.
        with contextlib.suppress(AttributeError, KeyError, TypeError):
            # What a property computes is not where a hit looks for it.
            key = (*key_of(*arguments), "computed") if computed else key_of(*arguments)
            plan: Runner | int | None = plans[key]
            if plan is not UNKNOWN:
                run = runner(signature) if plan is None or isinstance(plan, int) else plan
    learn: Callable[[Any], None] = _nothing
    if run is None:
        try:
            with unobserved() as traced:
                run, learn = _verified(signature, owner, memory, arguments, key, traced)
        except SafeLossError as error:
            raise as_the_user_gets_it(error, signature, arguments) from None
    try:
        loss = run(owner, arguments)
    except Exception as error:
        explain_native_error(signature, owner, arguments, error)
        raise
    try:
        learn(loss)  # only now: a call that raised proves nothing
    except SafeLossError as error:
        raise as_the_user_gets_it(error, signature, arguments) from None
    return loss


def _computes(owner: Any, attributes: tuple[str, ...]) -> bool:
    """Whether a subclass computes an attribute, by a property, that a hit would read as stored."""
    if type(owner) is owner._safeloss_class:
        return False
    return any(hasattr(getattr(type(owner), name, None), "__set__") for name in attributes)


def _nothing(loss: Any) -> None:
    pass


def _verified(
    signature: Signature,
    owner: Any,
    memory: Memory,
    arguments: Arguments,
    key: Any,
    traced: bool,
) -> tuple[Runner, Callable[[Any], None]]:
    """How a call runs that was verified, and what is learnt from its result once it has run."""
    named = dict(zip(signature.names, arguments))
    accepted = accept(signature, owner, memory, named, traced)
    call, reading = accepted.call, accepted.reading
    # A mean over nothing is reported; None: only the result tells.
    reported = call.options.get("empty") in ("warn", "raise")
    empty = signature.is_empty_mean(reading, call) if reported else False
    checks_left = 0 if traced else _first_check(accepted, memory)
    run, plan = _runner_of(accepted)
    first_run = run
    if signature.own is not None and not accepted.symbolic:
        # The shape of what somebody else's body returns is verified once.
        kernel: Any = signature.kernel
        sizes = tuple(signature.unreduced_axes(reading, call).shape)
        verifying = replace(signature, kernel=kernel.verifying(sizes))
        first_run, _ = _runner_of(replace(accepted, signature=verifying))
    # A tensor as an option would be known by its identity, and its value may change.
    known = key is not None and not any(
        [isinstance(call.options[name], Tensor) for name in signature.integers]
    )
    # Whoever warns is not remembered, so that each call site warns; nor is, of a function, what one
    # class means: that was proved at this call site, and a hit does not know its own.
    cacheable = (
        known
        and not (accepted.symbolic or traced or transformed())
        and not (checks_left or empty is not False)
        and not (owner is None and reading.one_class)
    )
    fits_form = not reading.one_class and accepted.fits_form

    def learn(loss: Any) -> None:
        if empty is not False:
            verify_mean(accepted, empty, loss)
        memory.values_unchecked, memory.checks_left, memory.one_class = False, checks_left, True
        # The plans and the class axes of a function are those of all its call sites.
        kept = signature.memory if owner is None else memory
        if reading.proves is not None:
            shape = call.shapes[signature.reader.inputs[0].name]
            kept.learn_class_axis(len(shape), shape[reading.proves])
        if cacheable:
            kept.learn_plan(key, plan, reading.proves, fits_form)

    return first_run, learn


def _first_check(accepted: Accepted, memory: Memory) -> int:
    """Check the numbers if that is due. Gives how many more calls are to be checked."""
    if accepted.call.options.get("check_values") != "first":
        return 0
    if memory.values_unchecked:
        return 0 if check_values(accepted) else MOST_CHECKS
    if memory.checks_left:
        return 0 if warn_of_values(accepted) else memory.checks_left - 1
    return 0


def _runner_of(accepted: Accepted) -> tuple[Runner, Runner | int | None]:
    """How a call runs, and the plan that is kept of it."""
    signature, call, strategy = accepted.signature, accepted.call, accepted.strategy
    position = signature.names.index
    steps = [(position(name), step) for name, steps in accepted.steps.items() for step in steps]
    fills = [
        (position(name), masked)
        for name, masked in accepted.reading.masked.items()
        if masked.value is not None
    ]
    checks: list[Check] = []
    if call.options.get("check_values") == "always":
        known = replace(accepted, owner=None, named={})  # a plan keeps no tensor alive
        checks.append(partial(_check_numbers, known))
    if "divided" in strategy and not isinstance(accepted.named["denominator"], Tensor):
        checks.append(partial(_check_denominator, signature))
    reduction = native_reduction(strategy) if strategy else call.options.get("reduction", "")
    code = signature.reduction_code(call, reduction)
    run = runner(signature, steps, fills, strategy, code, checks)
    return run, (run if steps or fills or strategy or checks else code)


def _check_numbers(known: Accepted, owner: Any, arguments: Arguments) -> None:
    """What `check_values="always"` does at every call of the same key."""
    with unobserved() as traced:
        if not traced:
            named = dict(zip(known.signature.names, arguments))
            check_values(replace(known, owner=owner, named=named))


def _check_denominator(signature: Signature, owner: Any, arguments: Arguments) -> None:
    """Refuse a number that is no count. (One in a tensor is not read from the device.)"""
    count = arguments[signature.order.at_call[2]]
    symbolic = isinstance(count, (torch.SymInt, torch.SymFloat))
    rule = broken_count_rule(count, decided if symbolic else bool)
    if rule:
        name = name_of(signature, owner)
        raise ValueRangeError.about(name, rule, code=codes.DENOMINATOR, advice=COUNT_ADVICE)


def _fx_node(signature: Signature, owner: Any, arguments: Arguments) -> Any:
    """The node of a call that `torch.fx` traces: a leaf, as PyTorch's loss is. The checks stay."""
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
