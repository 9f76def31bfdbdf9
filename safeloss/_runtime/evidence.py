"""What earlier calls have proved: those of a module, or those of a place that calls a loss."""

from typing import Any

from safeloss._messages.stack import users_frame
from safeloss._runtime.memory import NO_PLANS, Memory
from safeloss._runtime.module import memory_of
from safeloss._runtime.signature import Signature
from safeloss._torch import never_compiled

UNKNOWN: Any = object()  # what is known of a call that was not seen before


@never_compiled
def inherited(signature: Signature, owner: Any, key: Any) -> Any:
    """What is known of the first call of a module, from one that was built at the same place.

    Models often build their loss inside `forward`, anew at every step.
    """
    state = owner.__dict__
    memory = state.get("_memory")
    if key is None or memory is None or memory.plans is not NO_PLANS or not memory.values_unchecked:
        return UNKNOWN
    frame = users_frame()
    if frame is None:
        return UNKNOWN
    memory = signature.module_sites.of_module(frame.f_code, frame.f_lasti, owner, memory)
    state["_memory"] = memory
    try:
        return memory.plans[key]
    except (KeyError, TypeError):  # not seen before, or not hashable
        return UNKNOWN


def evidence_of(signature: Signature, owner: Any) -> Memory:
    """What earlier calls have proved: of the module, or at the place that calls the function."""
    memory = Memory() if owner is None else memory_of(owner)
    if owner is not None and not (memory.plans is NO_PLANS and memory.values_unchecked):
        return memory
    frame = users_frame()
    if frame is None:
        return memory
    code, place = frame.f_code, frame.f_lasti
    if owner is not None:
        memory = signature.module_sites.of_module(code, place, owner, memory)
        owner.__dict__["_memory"] = memory
        return memory
    memory = signature.sites.of_function(code, place)
    # A hit does not know its place, so the class axis is known to all places or to none.
    memory.class_axes = signature.memory.class_axes
    return memory
