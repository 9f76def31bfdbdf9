"""What earlier calls have proved: those of a module, or those of a place that calls a loss."""

from typing import Any

from safeloss._messages.stack import users_frame
from safeloss._runtime.memory import NO_PLANS, Memory
from safeloss._runtime.signature import Signature
from safeloss._torch import never_compiled

UNKNOWN: Any = object()  # what is known of a call that was not seen before


@never_compiled
def inherited_plan(signature: Signature, owner: Any, key: Any) -> Any:
    """The plan for the first call of a module, from one before it at this call site; or `UNKNOWN`.

    Models often build their loss inside `forward`, anew at every step. Sets `owner._memory` to the
    memory of the call site.
    """
    state = owner.__dict__
    memory = state.get("_memory")
    if memory.__class__ is not Memory:
        memory = memory_of(owner)
    if memory.plans is not NO_PLANS or not memory.values_unchecked:
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


def memory_for_call(signature: Signature, owner: Any) -> Memory:
    """What earlier calls have proved: of the module, or at the call site of the function."""
    if owner is not None:
        return memory_of(owner)
    frame = users_frame()
    if frame is None:
        return Memory()
    memory = signature.sites.of_function(frame.f_code, frame.f_lasti)
    # A hit does not know its call site, so all of them share the class axes.
    memory.class_axes = signature.memory.class_axes
    return memory


def memory_of(module: Any) -> Memory:
    """What a module has learnt, and room for it where there was none."""
    state = vars(module)
    for name, default in module._own_options.items():
        state.setdefault(name, default)  # where a hit looks for it
    memory = state.get("_memory")
    if not isinstance(memory, Memory):
        memory = state["_memory"] = Memory(*(memory or ()))
    return memory
