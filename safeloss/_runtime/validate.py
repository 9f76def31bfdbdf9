"""What is asked of a call of a new signature: its types, its hints and its numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import jaxtyped
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.contract import MEANS, Decision
from safeloss._contract.model import Call, Reading, Refusal
from safeloss._contract.patterns import Pattern, is_bearable
from safeloss._contract.suspicions import suspicions
from safeloss._contract.values import NotNaN, Rule, Seen, as_lengths, first_broken
from safeloss._messages.explain import Where, explain, explain_type, explain_value
from safeloss._messages.fixes import Face
from safeloss._messages.stack import warn_once
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import readable
from safeloss.errors import LayoutError, SafeLossError, ValueRangeError


def verify_types(signature: Signature, name: str, named: Named) -> None:
    """Tensors where tensors are declared."""
    wrong = [
        entry.name
        for entry in signature.reader.inputs
        if not isinstance(named[entry.name], Tensor)
        and not (entry.weight and named[entry.name] is None)
        and not is_bearable(named[entry.name], entry.hint)
    ]
    if wrong:
        raise explain_type(name, signature.reader.inputs, named, wrong)


def verify_hints(
    signature: Signature, owner: Any, call: Call, reading: Reading, named: Named
) -> None:
    """beartype's word on what native is about to get: the hints as they stand in the signature."""
    inputs = signature.reader.inputs
    with jaxtyped("context"):
        for entry in inputs:
            tensor = named[entry.name]
            if isinstance(tensor, Tensor):
                pattern = reading.patterns[entry.name]
                if pattern.broadcast:
                    tensor = tensor.expand(call.shapes[inputs[0].name])
                # A cast makes of a bool layout a real one, which the hint declares as well.
                hint = entry.arrays if entry.name in reading.edits else pattern.hint
                if not is_bearable(tensor, hint):
                    rule = f"`{entry.name}` is not as declared."
                    refusal = Refusal(LayoutError, rule, code=codes.TYPED)
                    raise refusal_of(signature, owner, call, refusal)


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
) -> Look:
    """Look at the numbers: with `rules`, what they break is raised; with `doubts`, what is
    suspicious is said."""
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not readable(tensors.values()):
        return Look(read=False, conclusive=True)  # it counts as read
    call = signature.call(None, named)
    lists = _lists(signature, named)
    seen = Seen(signature.edited(reading, {**named, **lists}), call.options, reading.axes)
    tensors |= lists
    declared = {entry.name: entry.patterns[0] for entry in signature.reader.inputs}
    patterns = {**reading.patterns, **{name: declared[name] for name in lists}}
    with torch.no_grad():
        broken = {
            name: found
            for name, pattern in (patterns if rules else {}).items()
            if (found := first_broken(seen.arguments[name], pattern.rules, seen)) is not None
        }
        if broken:
            name = min(broken, key=lambda name: not isinstance(broken[name].rule, NotNaN))
            where = _where(reading, name, patterns[name], tensors[name])
            mends = _mends(signature, named, name, broken[name].rule)
            face, inputs = face_of(signature, owner), signature.reader.inputs
            raise explain_value(face, where, broken[name], inputs, call, tensors, mends)
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


def verify_divisor(signature: Signature, owner: Any, reading: Reading, named: Named) -> None:
    """Warn of a mean over no target that counts, or raise where `empty` says so."""
    if signature.total is None:
        return
    edited = signature.edited(reading, named)
    call = signature.call(None, named)
    averaged = call.options.get("reduction", "mean") in MEANS
    if not averaged or call.options["empty"] in ("zero", "nan"):
        return
    if signature.is_empty_mean(reading, call):
        return  # the sizes tell, and that has been said
    with torch.no_grad():
        divisor = signature.total(edited)
        if divisor is None or divisor != 0:
            return
        counted = signature.total({**edited, "weight": None})
    rule = (
        f"`{signature.reader.target}` is `ignore_index` throughout: this is a mean over nothing, "
        "which is NaN."
        if counted is not None and counted == 0
        else "`weight` is 0 for every target of this batch, and the mean is 0 / 0."
    )
    if call.options["empty"] == "raise":
        fixes = ('{loss}(empty="zero")',)
        refusal = Refusal(ValueRangeError, rule, code=codes.EMPTY_MEAN, fixes=fixes)
        raise refusal_of(signature, owner, call, refusal)
    warn_once(f"{name_of(signature, owner)}: {rule}", code=codes.EMPTY_MEAN)


def _mends(
    signature: Signature, named: Named, argument: str, rule: Rule
) -> Callable[[Named], bool]:
    """Whether with some arguments changed the call is accepted and `rule` holds."""

    def mends(changes: Named) -> bool:
        changed = {**named, **changes}
        call = signature.call(None, changed)
        decision = signature.decide(call)
        if isinstance(decision, Refusal):
            return False
        reading = decision.reading
        seen = Seen(signature.edited(reading, changed), call.options, reading.axes)
        return first_broken(seen.arguments[argument], (rule,), seen) is None

    return mends


def refusal_of(signature: Signature, owner: Any, call: Call, refusal: Refusal) -> SafeLossError:
    def accepts(other: Call) -> bool:
        return isinstance(signature.decide(other._replace(evidence=None)), Decision)

    inputs = signature.reader.inputs
    return explain(face_of(signature, owner), inputs, call, refusal, accepts)


def face_of(signature: Signature, owner: Any) -> Face:
    native = signature.native_name
    if owner is None:
        callee = f"safeloss.functional.{signature.name}"
        return Face(signature.name, callee, False, signature.kernel, native)
    return Face(
        type(owner).__name__, ours(owner).__name__, True, signature.kernel, signature.native_name
    )


def ours(module: Any) -> Any:
    """The class of ours, which a user can name: that of the module may be a subclass of theirs."""
    return module._ours


def name_of(signature: Signature, owner: Any) -> str:
    return signature.name if owner is None else type(owner).__name__
