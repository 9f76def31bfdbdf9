"""What is asked of a call of a new signature: its types, its hints and its numbers."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import jaxtyped
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.contract import Decision
from safeloss._contract.labels import are_whole
from safeloss._contract.model import Call, Input, Reading, Refusal
from safeloss._contract.options import MEANS
from safeloss._contract.patterns import Pattern, is_bearable
from safeloss._contract.suspicions import suspicions
from safeloss._contract.values import Broken, NotNaN, Rule, ValueContext, as_lengths, first_broken
from safeloss._messages.explain import (
    Where,
    explain,
    explain_order,
    explain_type,
    explain_value,
)
from safeloss._messages.fixes import Callee, Trial
from safeloss._messages.stack import warn_once
from safeloss._runtime.masks import mask_of
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import readable, unobserved
from safeloss.errors import LayoutError, SafeLossError, ValueRangeError


def _no_tensors(signature: Signature, named: Named) -> list[str]:
    """The arguments that are no tensors, nor anything else that is declared."""
    return [
        entry.name
        for entry in signature.reader.inputs
        if not isinstance(named[entry.name], Tensor)
        and not (entry.weight and named[entry.name] is None)
        and not is_bearable(named[entry.name], entry.hint)
    ]


def verify_types(signature: Signature, owner: Any, named: Named) -> None:
    """Tensors where tensors are declared."""
    wrong = _no_tensors(signature, named)
    if wrong:
        call = signature.call(None, named)
        callee, trial = callee_of(signature, owner), trial_of(signature, named)
        inputs = signature.reader.inputs
        raise explain_type(callee.name, inputs, named, wrong, callee, call, trial)


def verify_hints(
    signature: Signature, owner: Any, call: Call, reading: Reading, named: Named
) -> None:
    """beartype's word on what native is about to get: the hints as they stand in the signature."""
    inputs = signature.reader.inputs
    with jaxtyped("context"):
        for entry in inputs:
            tensor = named[entry.name]
            if isinstance(tensor, Tensor) and entry.name in reading.patterns:
                pattern = reading.patterns[entry.name]
                if pattern.broadcast:
                    tensor = tensor.expand(call.shapes[inputs[0].name])
                # A cast makes of a bool layout a real one, which the hint declares as well.
                hint = entry.arrays if entry.name in reading.edits else pattern.hint
                if not is_bearable(tensor, hint):
                    rule = f"`{entry.name}` has neither the shape nor the dtype that is expected."
                    refusal = Refusal(LayoutError, rule, code=codes.TYPED)
                    raise refusal_of(signature, owner, call, refusal, named)


class Look(NamedTuple):
    """A look at the numbers of a call, which is true where they could be read."""

    read: bool
    conclusive: bool  # else there were too few of them to judge by, and a later call may tell more

    def __bool__(self) -> bool:
        return self.read


def look_at_values(signature: Signature, owner: Any, reading: Reading, named: Named) -> Look:
    """Read the numbers where they can be read, and raise or warn of what they break."""
    look = verify_values(signature, owner, reading, named)
    if look:
        verify_divisor(signature, owner, reading, named)
    return look


def verify_values(
    signature: Signature,
    owner: Any,
    reading: Reading,
    named: Named,
    rules: bool = True,
    doubts: bool = True,
    ask: bool = True,
) -> Look:
    """Look at the numbers: with `rules`, what they break is raised; with `doubts`, what is
    suspicious is said. `ask` says whether a message may ask PyTorch what it does."""
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not readable(tensors.values()):
        return Look(read=False, conclusive=True)  # it counts as read
    call = signature.call(None, named)
    lists = _lists(signature, named)
    seen = _value_context(signature, reading, call, {**named, **lists})
    tensors |= lists
    patterns = _patterns(signature, reading, lists)
    with torch.no_grad():
        broken = _broken(patterns, seen) if rules else {}
        if broken:
            name = min(broken, key=lambda name: not isinstance(broken[name].rule, NotNaN))
            where = _where(reading, name, patterns[name], tensors[name])
            callee, inputs = callee_of(signature, owner), signature.reader.inputs
            trial = trial_of(signature, {**named, **lists})
            target = _swappable(signature)
            raise explain_value(
                callee, where, broken[name], inputs, call, trial, seen, target, ask=ask
            )
        if rules:
            _verify_order(signature, owner, call, named)
        conclusive = True
        for name, pattern in (patterns if doubts else {}).items():
            axis = _where(reading, name, pattern, tensors[name]).axis
            classes = axis if pattern.has("classes") else None
            told = suspicions(tensors[name], pattern.rules, seen._replace(classes=classes))
            conclusive = conclusive and told.conclusive
            for doubt, text in told.texts:
                loss = name_of(signature, owner)
                kind = f"{loss} {name} {doubt}"
                warn_once(f"{loss}: `{name}` {text}.", code=doubt.code, kind=kind)
    return Look(read=True, conclusive=conclusive)


def _value_context(
    signature: Signature, reading: Reading, call: Call, named: Named
) -> ValueContext:
    """The call, as PyTorch is about to get it."""
    edited = signature.edited(reading, named)
    masks = {
        name: mask_of(edited["mask"], masked.shared, masked.missing, masked.own)
        for name, masked in reading.masked.items()
    }
    return ValueContext(edited, call.options, reading.axes, masks=masks)


def _lists(signature: Signature, named: Named) -> dict[str, Tensor]:
    """What is declared as a tensor or a list and came as a list, as a tensor."""
    found = {
        entry.name: as_lengths(named[entry.name])
        for entry in signature.reader.inputs
        if isinstance(named[entry.name], (list, tuple))
    }
    return {name: lengths for name, lengths in found.items() if lengths is not None}


def _where(reading: Reading, name: str, pattern: Pattern, tensor: Tensor) -> Where:
    """An argument as the user gave it, with its axis of the classes."""
    rank = tensor.dim()
    moved = name in reading.edits and reading.edits[name].classes_to_second
    return Where(name, rank - 1 if moved else pattern.class_axis(rank), moved)


EMPTY_MEAN = "this is a mean over zero elements, which is NaN."
ZERO_INSTEAD = ' `empty="zero"` makes it a zero that is connected to the graph.'


def verify_mean(
    signature: Signature, owner: Any, call: Call, named: Named, empty: bool | None, loss: Any
) -> None:
    """Warn of `loss`, a mean over zero elements, or raise where `empty` says so.

    Where only the result tells (`empty` is None), NaN out of no numbers is such a mean.
    """
    if empty is None:
        with unobserved() as traced:
            empty = not traced and readable([loss]) and bool(loss.isnan().any())
    if empty:
        if call.options["empty"] == "raise":
            raise refusal_of(signature, owner, call, signature.refused_mean(), named)
        instead = ZERO_INSTEAD if signature.offers_zero else ""
        text = f"{name_of(signature, owner)}: {EMPTY_MEAN}{instead}"
        warn_once(text, code=codes.EMPTY_MEAN)


def verify_divisor(signature: Signature, owner: Any, reading: Reading, named: Named) -> None:
    """Warn of a mean over no target that counts, or raise where `empty` says so."""
    weighed = named.get("sample_weight") is not None or named.get("mask") is not None
    if named.get("denominator") is not None or not (signature.divides_by_weights or weighed):
        return
    edited = signature.edited(reading, named)
    call = signature.call(None, named)
    averaged = call.options.get("reduction", "mean") in MEANS
    if not averaged or call.options["empty"] in ("zero", "nan"):
        return
    if signature.is_empty_mean(reading, call):
        return  # the sizes tell, and that has been said
    with torch.no_grad():
        counted = _counted(signature, edited)
        if counted is None or counted.sum() != 0:
            return
        unweighted = _counted(signature, {**edited, "weight": None, "sample_weight": None})
    nothing = unweighted is not None and unweighted.sum() == 0
    if nothing and named.get("mask") is not None and not edited["mask"].any():
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
        refusal = Refusal(ValueRangeError, rule, code=codes.EMPTY_MEAN, fixes=fixes)
        raise refusal_of(signature, owner, call, refusal, named)
    warn_once(f"{name_of(signature, owner)}: {rule}", code=codes.EMPTY_MEAN)


def _counted(signature: Signature, named: Named) -> Tensor | None:
    """What the mean counts, if any number decides on it."""
    counts, _ = signature.counting
    counted = None if counts is None else counts(named)
    weight, mask = named.get("sample_weight"), named.get("mask")
    if weight is not None and mask is not None:
        weight = torch.where(mask, weight, 0)
    for factor in (weight, mask):
        if factor is not None:
            counted = factor if counted is None else counted * factor
    return counted


def _patterns(signature: Signature, reading: Reading, lists: Named) -> dict[str, Pattern]:
    """The layouts of all arguments, of lengths that came as a list the declared one."""
    declared = {entry.name: entry.patterns[0] for entry in signature.reader.inputs}
    return {**reading.patterns, **{name: declared[name] for name in lists}}


def _broken(patterns: Mapping[str, Pattern], seen: ValueContext) -> dict[str, Broken]:
    """The first rule that each argument breaks."""
    found = {
        name: first_broken(seen.arguments[name], pattern.rules, seen, seen.masks.get(name))
        for name, pattern in patterns.items()
    }
    return {name: broken for name, broken in found.items() if broken is not None}


def _swappable(signature: Signature) -> str:
    """The target, if its numbers mean something else than those of the first argument."""
    target = next(x for x in signature.reader.inputs if x.name == signature.reader.target)
    if target is signature.reader.inputs[0]:
        return ""  # it is the only one
    rules = [rule for pattern in target.patterns for rule in pattern.rules]
    special = any(isinstance(rule, Rule) and not isinstance(rule, NotNaN) for rule in rules)
    return target.name if special else ""


def _verify_order(signature: Signature, owner: Any, call: Call, named: Named) -> None:
    """Refuse labels in the place of scores, where they are certain: only the target requires grad,
    and the first argument holds whole numbers that are labels."""
    first, target = signature.reader.inputs[0].name, signature.reader.target
    if named[first].requires_grad or not named[target].requires_grad:
        return
    if not _swappable(signature):
        return
    trial = trial_of(signature, named)
    if not (named[first].numel() and are_whole(named[first])):
        return
    if trial.accepts({first: named[target], target: named[first]}):
        callee, inputs = callee_of(signature, owner), signature.reader.inputs
        raise explain_order(callee, inputs, call, trial, target)


def is_accepted(signature: Signature, named: Named) -> bool:
    """Whether a call would be: by types, layout and, where they can be read, its numbers."""
    if _no_tensors(signature, named):
        return False
    call = signature.call(None, named)
    decision = signature.decide(call)
    if isinstance(decision, Refusal):
        return False
    if not readable([value for value in named.values() if isinstance(value, Tensor)]):
        return True
    lists = _lists(signature, named)
    reading = decision.reading
    seen = _value_context(signature, reading, call, {**named, **lists})
    return not _broken(_patterns(signature, reading, lists), seen)


def could_be(entry: Input, tensor: Tensor) -> bool:
    """Whether `tensor` may be this argument of some call."""
    return any(
        pattern.takes(tensor.dtype)
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
    inputs, target = signature.reader.inputs, _swappable(signature)
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
