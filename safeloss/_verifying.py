"""What is asked of a call of a new signature: its types, its hints and its numbers."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import jaxtyped
from torch import Tensor

from safeloss._call import Call, Reading, Refusal
from safeloss._explaining import Where, explain, explain_type, explain_value
from safeloss._frames import warn_once
from safeloss._matching import is_bearable
from safeloss._repairs import Face
from safeloss._signature import MEANS, Decision, Named, Signature
from safeloss._torch import readable
from safeloss._values import Rule, Seen, first_broken, suspicions
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
                hint = entry.hint if entry.name in reading.edits else pattern.hint
                if not is_bearable(tensor, hint):
                    refusal = Refusal(LayoutError, f"`{entry.name}` is not as declared.")
                    raise refusal_of(signature, owner, call, refusal)


def look_at_values(signature: Signature, owner: Any, reading: Reading, named: Named) -> None:
    """Read the numbers where they can be read, and raise or warn of what they break."""
    if verify_values(signature, owner, reading, named):
        verify_divisor(signature, owner, reading, named)


def verify_values(signature: Signature, owner: Any, reading: Reading, named: Named) -> bool:
    """Whether the numbers could be read; the first rule that they break is raised."""
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not readable(tensors.values()):
        return False
    call = signature.call(None, named)
    seen = Seen(signature.edited(reading, named), call.options, reading.axes)
    with torch.no_grad():
        for argument, pattern in reading.patterns.items():
            values = seen.arguments[argument]
            try:
                broken = first_broken(values, pattern.rules, seen)
                doubts = [] if broken else suspicions(values, pattern.rules, seen)
            except (NotImplementedError, RuntimeError):
                continue  # sparse, float8, ...: torch cannot compare or reduce what they hold
            if broken is not None:
                rank = tensors[argument].dim()
                moved = argument in reading.edits and reading.edits[argument].classes_to_second
                where = Where(argument, rank - 1 if moved else pattern.class_axis(rank), moved)
                mends = _mends(signature, named, argument, broken.rule)
                inputs = signature.reader.inputs
                face = face_of(signature, owner)
                raise explain_value(face, where, broken, inputs, call, tensors, mends)
            for doubt in doubts:
                warn_once(f"{name_of(signature, owner)}: `{argument}` {doubt}.")
    return True


def verify_divisor(signature: Signature, owner: Any, reading: Reading, named: Named) -> None:
    """Warn of a mean over no target that counts, or raise where `empty` says so."""
    edited = signature.edited(reading, named)
    call = signature.call(None, named)
    averaged = call.options.get("reduction", "mean") in MEANS
    if not averaged or signature.total is None or call.options["empty"] in ("zero", "nan"):
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
        refusal = Refusal(ValueRangeError, rule, fixes=('{loss}(empty="zero")',))
        raise refusal_of(signature, owner, call, refusal)
    warn_once(f"{name_of(signature, owner)}: {rule}")


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
        return isinstance(signature.decide(other._replace(memory=None)), Decision)

    inputs = signature.reader.inputs
    return explain(face_of(signature, owner), inputs, call, refusal, accepts)


def face_of(signature: Signature, owner: Any) -> Face:
    if owner is None:
        callee = f"safeloss.functional.{signature.name}"
        return Face(signature.name, callee, False, signature.kernel)
    return Face(type(owner).__name__, ours(owner).__name__, True, signature.kernel)


def ours(module: Any) -> Any:
    """The class of ours, which a user can name: that of the module may be a subclass of theirs."""
    return module._ours


def name_of(signature: Signature, owner: Any) -> str:
    return signature.name if owner is None else type(owner).__name__
