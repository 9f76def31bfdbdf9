"""A call inside a compiler: the same reading, on symbolic sizes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from safeloss._call import Refusal
from safeloss._explaining import brief
from safeloss._memory import settle
from safeloss._signature import Kernel, Signature, Total, averaged, validate
from safeloss.errors import ArgumentTypeError


def traced_call(
    constant: Callable[[], Signature],
    kernel: Kernel,
    total: Total | None,
    owner: Any,
    arguments: tuple[Any, ...],
) -> Tensor:
    """The call on symbolic sizes: the same reading, which a compiler turns into guards."""
    signature = constant()
    name = signature.name if owner is None else type(owner).__name__
    memory = None if owner is None else owner._memory
    # `dict(zip(...))` would have Dynamo guard on what it makes of it.
    named = {parameter: value for parameter, value in zip(signature.names, arguments)}  # noqa: C416  # see above
    for entry in signature.reader.inputs:
        if entry.tensor and not entry.weight and not isinstance(named[entry.name], Tensor):
            raise ArgumentTypeError(f"{name}: `{entry.name}` must be a tensor.")
    call = signature.call(memory, named)
    validate(name, signature.choices, call.options, owner is not None)
    reading = signature.reader.read(call)
    if isinstance(reading, Refusal):
        raise reading.error(brief(name, signature.reader.inputs, call, reading))
    zero = signature.zero(reading, call)
    if isinstance(zero, Refusal):
        raise zero.error(brief(name, signature.reader.inputs, call, zero))
    if reading.settles and memory is not None:
        settle(memory.key)
    named = signature.edited(reading, named)
    given, by_name = signature.given(zero, named)
    # Where the kernel breaks the graph, nothing that only a trace knows is needed afterwards.
    loss = kernel(*given, **by_name)
    return averaged(loss, total, zero, named) if zero else loss
