"""What torch knows of the running call and offers under private names only."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._ops import _len_torch_dispatch_stack_pre_dispatch
from torch._subclasses.fake_tensor import FakeTensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import (
    TorchDispatchMode as TorchDispatchMode,
)
from torch.utils._python_dispatch import (
    _disable_current_modes,
    is_traceable_wrapper_subclass,
)

_C: Any = torch._C  # whose stubs leave most of it out
_PROXY = _C._TorchDispatchModeKey.PROXY

unhandled = _C.DisableTorchFunction  # a context: no mode and no subclass sees torch's functions


def transformed() -> bool:
    """Whether a `torch.func` transform is active, under which `vmap` hides a batch axis."""
    return _C._functorch.peek_interpreter_stack() is not None


def exporting() -> bool:
    """Whether `torch.export` is at work, which warns of what a module remembers."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def tracing() -> bool:
    """Whether `torch.jit.trace` is active, under which sizes are tensors."""
    return _C._get_tracing_state() is not None


def in_backward() -> bool:
    """Whether a backward pass is running in this thread."""
    return _C._current_graph_task_id() >= 0


def constant_while_compiling(function: Any) -> Any:
    """Dynamo shall call `function` while it traces, not trace it, and not guard on what it gives.

    It is what `torch.compiler.assume_constant_result` does, which would import all of Dynamo.
    """
    function._dynamo_marked_constant = True
    return function


def active_modes() -> list[TorchFunctionMode]:
    """Those that see the calls of torch's functions in this thread, the outermost first."""
    return [_C._get_function_stack_at(depth) for depth in range(_C._len_torch_function_stack())]


def leave(mode: TorchFunctionMode) -> bool:
    """Remove `mode` from the stack of this thread, wherever it is; the others stay in their order.

    `TorchFunctionMode.__exit__` removes the innermost mode, whichever that is. A mode that a
    suspended generator entered can end before modes that were entered later.

    Returns False if it is not on this stack: another thread entered it, or it is handling a call,
    during which torch takes it from the stack. Then no other mode is removed in its place.
    """
    active = active_modes()
    depths = [depth for depth, other in enumerate(active) if other is mode]
    if not depths:
        return False
    above = active[depths[-1] + 1 :]
    for _ in (mode, *above):
        _C._pop_torch_function_stack()
    for other in above:
        _C._push_on_torch_function_stack(other)
    return True


@contextlib.contextmanager
def unobserved() -> Iterator[bool]:
    """While we look at a call nobody looks at us: no mode, no tensor subclass, no trace.

    They would be shown operations of ours, and `torch.jit.trace` turns sizes into tensors.
    Gives whether the call is traced, so that its numbers must not be read.
    """
    state = _C._get_tracing_state()
    proxies = _C._get_dispatch_mode(_PROXY)
    traced = state is not None or proxies is not None or torch.compiler.is_compiling()
    modes = _C._len_torch_dispatch_stack() or _len_torch_dispatch_stack_pre_dispatch()
    with _C.DisableTorchFunction(), _disable_current_modes() if modes else nullcontext():
        if state is None:
            yield traced
            return
        _C._set_tracing_state(None)
        try:
            yield traced
        finally:
            _C._set_tracing_state(state)


def readable(tensors: Iterable[Tensor]) -> bool:
    """Whether the numbers are there: no transform, no CUDA graph capture, no fake tensor."""
    if transformed():
        return False
    for tensor in tensors:
        if tensor.is_meta:
            return False
        if type(tensor) is not Tensor and (
            isinstance(tensor, FakeTensor) or is_traceable_wrapper_subclass(tensor)
        ):
            return False
        if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
            return False
    return True


def unread(*values: Any) -> bool:
    """Whether a look at the numbers of `values` would fail: inside a compiler or a transform, and
    on tensors that have none."""
    if is_dynamo_compiling():
        return True
    if _C._len_torch_dispatch_stack() and _C._get_dispatch_mode(_PROXY):
        return True
    for value in values:
        if type(value) is not Tensor or not value.is_cpu:  # most are, and need no longer look
            return not readable([value for value in values if isinstance(value, Tensor)])
    return transformed()


_Function = TypeVar("_Function", bound=Callable[..., Any])


def never_compiled(function: _Function) -> _Function:
    """`function`, whose frame Dynamo shall not compile. Unlike `outside_compiler` it is free."""
    frames = _C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):
        skip = frames._FrameAction.SKIP
        strategy = frames._FrameExecStrategy(skip, skip)
        frames.set_code_exec_strategy(function.__code__, strategy)
    else:  # older ones
        frames.skip_code(function.__code__)
    return function


def outside_compiler(function: _Function) -> _Function:
    """`function`, which Dynamo shall not compile when it falls back to eager mode.

    What `torch.compiler.disable` does, once there is a compiler: making it imports all of Dynamo.
    """
    isolated: list[Any] = []

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args)
        if not isolated:
            disable: Any = torch.compiler.disable
            isolated.append(disable(function))
        return isolated[0](*args)

    return cast(_Function, call)


def has_nested_size(shape: Iterable[int]) -> bool:
    """Whether a size stands for several, as in a jagged tensor: it can be compared, and no more."""
    sizes: list[Any] = [size for size in shape if isinstance(size, torch.SymInt)]
    return any([getattr(size.node, "is_nested_int", bool)() for size in sizes])


def any_zero(sizes: Iterable[int]) -> bool:
    """Whether a size is 0; of one that only the data will tell, no."""
    for size in sizes:
        zero: Any = size == 0
        if decided(zero) if isinstance(zero, torch.SymBool) else bool(zero):
            return True
    return False


def may_be_zero(size: int) -> bool:
    """Whether a size is 0 or may turn out to be, since only the data will tell."""
    some: Any = size >= 1
    return not (decided(some) if isinstance(some, torch.SymBool) else some)


if torch.__version__ >= "2.8":  # a version, not a mere string

    def decided(comparison: Any) -> bool:
        """A comparison of sizes as a fact; False where only the data will tell."""
        from torch.fx.experimental.symbolic_shapes import guard_or_false

        return guard_or_false(comparison)

else:

    def decided(comparison: Any) -> bool:
        """A comparison of sizes as a fact; False where only the data will tell.

        Such a size counts as 2 or more.
        """
        from torch.fx.experimental.symbolic_shapes import guard_size_oblivious

        return guard_size_oblivious(comparison)
