"""Where PyTorch is entered: once for each call, by a closure that is made when the call is new.

The exception is a hit whose arguments PyTorch takes as they are: there the generated function
calls the kernel, or its operator, itself (`codegen`).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor
from torch.overrides import has_torch_function

from safeloss._contract.model import Masked
from safeloss._runtime.masks import filled
from safeloss._runtime.reductions import native_reduction, reduced
from safeloss._runtime.signature import Counting, Kernel, Order, Signature

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
    kernel, counting, order = signature.kernel, signature.counting, signature.order
    operator, operands = signature.operator, signature.operands
    alone = operator is not None and code is not None and not order.by_name

    def run(owner: Any, arguments: Arguments) -> Tensor:
        for check in checks:
            check(owner, arguments)
        given = [*arguments]
        for position, step in steps:
            given[position] = step(given[position])
        for position, masked in fills:
            given[position] = filled(given[position], given[order.at_call[1]], *masked)
        if operator is None or not alone or has_torch_function(given):
            return run_kernel(kernel, counting, order, strategy, given)
        native = [*given, None]  # the last is for operands that are None
        native[order.reduction] = code
        loss = operator.call(*[native[i] for i in operands])
        return reduced(loss, counting, order, strategy, given) if strategy else loss

    return run


def run_kernel(
    kernel: Kernel,
    counting: Counting,
    order: Order,
    strategy: tuple[str, ...],
    given: list[Any],
) -> Tensor:
    """The loss, reduced by PyTorch or as `strategy` says. A compiler traces this, too."""
    native = [*given]
    if strategy:
        for position in order.legacy:
            native[position] = None
        native[order.reduction] = native_reduction(strategy)
    by_name = {order.names[i]: native[i] for i in order.by_name}
    loss = kernel(*[native[i] for i in order.positional], **by_name)
    return reduced(loss, counting, order, strategy, given) if strategy else loss
