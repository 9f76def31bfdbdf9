"""What is asked of a call of a new signature: its types, its layouts, its hints and its numbers."""

from typing import Any

import torch
from jaxtyping import jaxtyped
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.contract import Decision
from safeloss._contract.labels import are_whole
from safeloss._contract.model import Call, Evidence, Refusal
from safeloss._contract.options import MEANS
from safeloss._contract.patterns import is_bearable
from safeloss._contract.suspicions import Suspicion, suspicions
from safeloss._contract.values import NotNaN
from safeloss._messages.explain import Where, explain_order, explain_type, explain_value
from safeloss._messages.stack import warn_once
from safeloss._runtime.accepted import Accepted
from safeloss._runtime.memory import Memory
from safeloss._runtime.refusals import (
    callee_of,
    name_of,
    no_tensors,
    refusal_of,
    swappable,
    trial_of,
)
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import readable, unobserved
from safeloss.errors import LayoutError, SafeLossError, ValueRangeError


def accept(
    signature: Signature, owner: Any, evidence: Evidence, named: Named, traced: bool
) -> Accepted:
    """What a call means; refuses one that means nothing, by its types, shapes and dtypes."""
    wrong = no_tensors(signature, named)
    if wrong:
        call = signature.call(None, named)
        callee, trial = callee_of(signature, owner), trial_of(signature, named)
        inputs = signature.reader.inputs
        raise explain_type(callee.name, inputs, named, wrong, callee, call, trial)
    call = signature.call(evidence, named)
    decision = signature.decide(call)
    if isinstance(decision, Refusal) and decision.weak:
        decision = _decide_one_class(signature, owner, call, named, decision, traced)
    if isinstance(decision, Refusal):
        raise refusal_of(signature, owner, call, decision, named)
    accepted = Accepted(signature, owner, named, call, *decision)
    if not accepted.symbolic:
        _verify_hints(accepted)
    for mistake in signature.reader.warnings(call):
        warn_once(f"{name_of(signature, owner)}: {mistake.rule}", code=mistake.code)
    return accepted


def _decide_one_class(
    signature: Signature, owner: Any, call: Call, named: Named, refusal: Refusal, traced: bool
) -> Refusal | Decision:
    """Decide a call with a single class again, if that may be meant: if all labels are 0, as in the
    last batch of a loss over candidates. Any other label shows a mistake."""
    target = named[signature.reader.target]
    if traced or not readable([target]):
        allowed = signature.has_one_label(call)
    else:
        allowed = not (target.is_floating_point() or target.is_complex() or target.any())
        if allowed:
            warn_once(
                f"{name_of(signature, owner)}: {refusal.rule} "
                "It is right only where the classes are candidates.",
                code=refusal.code,
            )
    if not allowed:
        return refusal
    evidence: Any = call.evidence
    allowing = Memory(one_class=True, class_axes=evidence.class_axes)
    return signature.decide(call._replace(evidence=allowing))


def _refused(accepted: Accepted, refusal: Refusal) -> SafeLossError:
    """The error for a call that its types and layouts alone would not refuse."""
    parts = accepted.signature, accepted.owner, accepted.call
    return refusal_of(*parts, refusal, accepted.named)


def _verify_hints(accepted: Accepted) -> None:
    """beartype's word on what PyTorch is about to get: the hints as they stand in the signature."""
    inputs, patterns = accepted.signature.reader.inputs, accepted.reading.patterns
    with jaxtyped("context"):
        for entry in inputs:
            tensor = accepted.aligned[entry.name]
            if isinstance(tensor, Tensor) and entry.name in patterns:
                pattern = patterns[entry.name]
                if pattern.broadcast:
                    tensor = tensor.expand(accepted.call.shapes[inputs[0].name])
                # A cast makes of a bool layout a real one, which the hint declares as well.
                hint = entry.arrays if entry.name in accepted.steps else pattern.hint
                if not is_bearable(tensor, hint):
                    rule = f"`{entry.name}` has neither the shape nor the dtype that is expected."
                    raise _refused(accepted, Refusal(LayoutError, rule, code=codes.TYPED))


def check_values(accepted: Accepted) -> bool:
    """Raise what the numbers break, and warn of what is suspicious about them.

    Gives whether they were enough to judge by; those that cannot be read count as read.
    """
    if not accepted.readable:
        return True
    verify_values(accepted)
    conclusive = warn_of_values(accepted)
    _verify_divisor(accepted)
    return conclusive


def verify_values(accepted: Accepted, ask: bool = True) -> None:
    """Raise what the numbers break, where they can be read. `ask` says whether a message may ask
    PyTorch what it does."""
    if not accepted.readable:
        return
    signature, call = accepted.signature, accepted.call
    with torch.no_grad():
        broken = accepted.broken()
        if broken:
            name = min(broken, key=lambda name: not isinstance(broken[name].rule, NotNaN))
            where = _where(accepted, name)
            callee, inputs = callee_of(signature, accepted.owner), signature.reader.inputs
            trial = trial_of(signature, {**accepted.named, **accepted.tensors})
            target, seen = swappable(signature), accepted.context
            raise explain_value(
                callee, where, broken[name], inputs, call, trial, seen, target, ask=ask
            )
        _verify_order(accepted)


def warn_of_values(accepted: Accepted) -> bool:
    """Warn of what is suspicious about the numbers; gives what `check_values` does."""
    if not accepted.readable:
        return True
    conclusive = True
    with torch.no_grad():
        for name, pattern in accepted.patterns.items():
            if any([isinstance(rule, Suspicion) for rule in pattern.rules]):
                context = accepted.context._replace(classes=accepted.class_axis(name))
                told = suspicions(accepted.tensors[name], pattern.rules, context)
                conclusive = conclusive and told.conclusive
                for doubt, text in told.texts:
                    loss = name_of(accepted.signature, accepted.owner)
                    kind = f"{loss} {name} {doubt}"
                    warn_once(f"{loss}: `{name}` {text}.", code=doubt.code, kind=kind)
    return conclusive


def _where(accepted: Accepted, name: str) -> Where:
    """An argument as the user gave it, with its axis of the classes."""
    axis, edits = accepted.class_axis(name), accepted.reading.edits
    moved = name in edits and edits[name].classes_to_second
    return Where(name, accepted.tensors[name].dim() - 1 if axis is None else axis, moved)


def _verify_order(accepted: Accepted) -> None:
    """Refuse labels in the place of scores, where they are certain: only the target requires grad,
    and the first argument holds whole numbers that are labels."""
    signature, named = accepted.signature, accepted.named
    first, target = signature.reader.inputs[0].name, signature.reader.target
    if named[first].requires_grad or not named[target].requires_grad:
        return
    if not swappable(signature):
        return
    trial = trial_of(signature, named)
    if not (named[first].numel() and are_whole(named[first])):
        return
    if trial.accepts({first: named[target], target: named[first]}):
        callee, inputs = callee_of(signature, accepted.owner), signature.reader.inputs
        raise explain_order(callee, inputs, accepted.call, trial, target)


EMPTY_MEAN = "this is a mean over zero elements, which is NaN."
ZERO_INSTEAD = ' `empty="zero"` makes it a zero that is connected to the graph.'


def verify_mean(accepted: Accepted, empty: bool | None, loss: Any) -> None:
    """Warn of `loss`, a mean over zero elements, or raise where `empty` says so.

    Where only the result tells (`empty` is None), NaN out of no numbers is such a mean.
    """
    signature = accepted.signature
    if empty is None:
        with unobserved() as traced:
            empty = not traced and readable([loss]) and bool(loss.isnan().any())
    if empty:
        if accepted.call.options["empty"] == "raise":
            raise _refused(accepted, signature.empty_mean_refusal())
        instead = ZERO_INSTEAD if signature.offers_zero else ""
        text = f"{name_of(signature, accepted.owner)}: {EMPTY_MEAN}{instead}"
        warn_once(text, code=codes.EMPTY_MEAN)


def _verify_divisor(accepted: Accepted) -> None:
    """Warn of a mean over no target that counts, or raise where `empty` says so."""
    signature, call, named = accepted.signature, accepted.call, accepted.named
    weighed = named.get("sample_weight") is not None or named.get("mask") is not None
    if named.get("denominator") is not None or not (signature.divides_by_weights or weighed):
        return
    averaged = call.options.get("reduction", "mean") in MEANS
    if not averaged or call.options["empty"] in ("zero", "nan"):
        return
    if signature.is_empty_mean(accepted.reading, call):
        return  # the sizes tell, and that has been said
    native = dict(accepted.context.arguments)
    with torch.no_grad():
        counted = _counted(signature, native)
        if counted is None or counted.sum() != 0:
            return
        unweighted = _counted(signature, {**native, "weight": None, "sample_weight": None})
    nothing = unweighted is not None and unweighted.sum() == 0
    if nothing and named.get("mask") is not None and not native["mask"].any():
        rule = "`mask` is False everywhere: the mean over nothing is NaN."
    elif nothing:
        rule = (
            f"every number of `{signature.reader.target}` is `ignore_index`: the mean over nothing "
            "is NaN."
        )
    else:
        weight = "weight" if named.get("weight") is not None else "sample_weight"
        rule = f"`{weight}` is 0 for every target of this batch: the mean is 0 / 0, which is NaN."
    if call.options["empty"] == "raise":
        fixes = ('{loss}(empty="zero")',)
        raise _refused(accepted, Refusal(ValueRangeError, rule, code=codes.EMPTY_MEAN, fixes=fixes))
    warn_once(f"{name_of(signature, accepted.owner)}: {rule}", code=codes.EMPTY_MEAN)


def _counted(signature: Signature, named: Named) -> Tensor | None:
    """What the mean counts, if any number decides on it."""
    counted, counts = None, signature.counting[0]
    if counts is not None:
        function, positions = counts
        counted = function(*[named[signature.names[i]] for i in positions])
    weight, mask = named.get("sample_weight"), named.get("mask")
    if weight is not None and mask is not None:
        weight = torch.where(mask, weight, 0)
    for factor in (weight, mask):
        if factor is not None:
            counted = factor if counted is None else counted * factor
    return counted
