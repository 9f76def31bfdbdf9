"""Where PyTorch is entered: once for each call, by a closure that is made when the call is new.

The exception is a hit whose arguments PyTorch takes as they are: there the generated function
calls the kernel, or its operator, itself (`codegen`).
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from torch import Tensor
from torch.overrides import has_torch_function

from safeloss._contract.model import Masked
from safeloss._runtime.masks import filled
from safeloss._runtime.reductions import Reducer, native_reduction, reducer
from safeloss._runtime.signature import Kernel, Order, Signature

Step: TypeAlias = tuple[int, Callable[[Tensor], Tensor]]  # a view or a cast, by position
Fills: TypeAlias = Sequence[tuple[int, Masked]]  # what the mask leaves out of arguments
Arguments: TypeAlias = tuple[Any, ...]  # of the kernel, all of them, in their order
Check: TypeAlias = Callable[[Any, Arguments], None]  # of the numbers, before PyTorch reads them
Runner: TypeAlias = Callable[[Any, Arguments], Tensor]  # the first is the module, or None


def runner(
    signature: Signature,
    steps: Sequence[Step] = (),
    fills: Fills = (),
    strategy: tuple[str, ...] = (),
    code: int | None = None,
    checks: Sequence[Check] = (),
) -> Runner:
    """How calls of one form run: the `checks`, the `steps`, the `fills`, PyTorch.

    `code` is torch's number of the reduction, where the operator alone does what the kernel does.
    `strategy` is how the result is reduced: see `Contract.strategy`.
    """
    kernel, order, operator = signature.kernel, signature.order, signature.operator
    reduce = reducer(strategy, signature.counting, order) if strategy else None
    mask_at = order.at_call[1] if fills else -1
    edited = bool(steps or fills)
    # Where the operator alone does what the kernel does.
    call: Any = None
    operands: Any = None
    if operator is not None and code is not None and not order.by_name:
        call, operands = operator.call, itemgetter(*_operands(signature))

    def run(owner: Any, arguments: Arguments) -> Tensor:
        for check in checks:
            check(owner, arguments)
        given: Sequence[Any] = arguments
        if edited:
            given = changed = [*arguments]
            for position, step in steps:
                changed[position] = step(changed[position])
            for position, masked in fills:
                changed[position] = filled(changed[position], changed[mask_at], *masked)
        if call is None or has_torch_function(given):
            return run_kernel(kernel, order, strategy, reduce, given)
        native = operands((*given, None, code))
        return call(*native) if reduce is None else reduce(call(*native), given)

    return run


def _operands(signature: Signature) -> tuple[int, ...]:
    """Where an operator's operands are among all arguments, a None and torch's reduction."""
    none = len(signature.names)
    places = {-1: none, signature.order.reduction: none + 1}
    return tuple(places.get(position, position) for position in signature.operands)


def run_kernel(
    kernel: Kernel,
    order: Order,
    strategy: tuple[str, ...],
    reduce: Reducer | None,
    given: Sequence[Any],
) -> Tensor:
    """The loss, reduced by PyTorch or as `strategy` says. A compiler traces this, too."""
    native = [*given]
    if reduce is not None:
        for position in order.legacy:
            native[position] = None
        native[order.reduction] = native_reduction(strategy)
    by_name = {order.names[i]: native[i] for i in order.by_name}
    positional = [native[i] for i in order.positional]
    if reduce is None:
        return kernel(*positional, **by_name)
    return reduce(kernel(*positional, **by_name), given)
