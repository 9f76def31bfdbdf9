"""What earlier calls have proved: those of a module, or those of a place that calls a loss."""

import weakref
from types import CodeType
from typing import TYPE_CHECKING, Any

from safeloss._messages.stack import users_frame
from safeloss._runtime.memory import NO_PLANS, UNKNOWN, Memory
from safeloss._torch import never_compiled

if TYPE_CHECKING:
    from safeloss._runtime.signature import Signature

MOST_SITES = 4096  # call sites that one kernel remembers


@never_compiled
def inherited_plan(signature: "Signature", owner: Any, key: Any) -> Any:
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
    frame = users_frame(3)  # past itself, this function and the generated `forward`
    if frame is None:
        return UNKNOWN
    memory = signature.module_sites.of_module(frame.f_code, frame.f_lasti, owner, memory)
    state["_memory"] = memory
    try:
        return memory.plans[key]
    except (KeyError, TypeError):  # not seen before, or not hashable
        return UNKNOWN


def memory_for_call(signature: "Signature", owner: Any) -> Memory:
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


class Site:
    """A place that calls a loss, and what was learnt there."""

    __slots__ = ("code", "memory", "module")

    def __init__(self, code: CodeType, memory: Memory, module: "weakref.ref[Any] | None") -> None:
        self.code = code  # kept alive, so that its id is not given to another
        self.memory = memory
        self.module = module  # that started here the last time; None for a function


class Sites(dict[tuple[int, int], Site]):
    """The places that call one kernel, by the id of their code and their place in it."""

    def of_function(self, code: CodeType, place: int) -> Memory:
        """What was learnt at a place that calls the function."""
        site = self.get((id(code), place))
        return site.memory if site is not None else self._keep(code, place, None, Memory())

    @never_compiled
    def of_module(self, code: CodeType, place: int, module: Any, memory: Memory) -> Memory:
        """The memory for the first call of a module: its own, or that of the module before it at
        this call site, if that one is dead."""
        site = self.get((id(code), place))
        if site is not None and site.memory is memory:
            return memory
        if site is None or site.module is None or site.module() is not None:
            return self._keep(code, place, weakref.ref(module), memory)
        site.module = weakref.ref(module)
        return site.memory

    def _keep(
        self, code: CodeType, place: int, module: "weakref.ref[Any] | None", memory: Memory
    ) -> Memory:
        if len(self) >= MOST_SITES:
            self.pop(next(iter(self)), None)  # the oldest
        self[id(code), place] = Site(code, memory, module)
        return memory
