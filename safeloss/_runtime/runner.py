"""Where PyTorch is entered: once for each call, by a closure that is made when the call is new.

The exception is a hit whose arguments PyTorch takes as they are: there the generated function
calls the kernel, or its operator, itself (`codegen`).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from safeloss._runtime.signature import Kernel, Named, Order, Signature, Total

Step: TypeAlias = tuple[int, Callable[[Tensor], Tensor]]  # a view or a cast, by position
Arguments: TypeAlias = tuple[Any, ...]  # of the kernel, all of them, in their order
Runner: TypeAlias = Callable[[Any, Arguments], Tensor]  # the first is the module, or None


def runner(
    signature: Signature,
    steps: Sequence[Step] = (),
    strategy: str = "",
    code: int | None = None,
    look: Callable[[Any, Arguments], None] | None = None,
) -> Runner:
    """How calls of one form run: `look` at the numbers, take the `steps`, enter PyTorch.

    `code` is torch's number of the reduction, where the operator alone does what the kernel does.
    `strategy` is how the mean is taken: see `Contract.mean_strategy`.
    """
    kernel, total, order = signature.kernel, signature.total, signature.order

    def run(owner: Any, arguments: Arguments) -> Tensor:
        if look is not None:
            look(owner, arguments)
        given = [*arguments]
        for position, step in steps:
            given[position] = step(given[position])
        return run_kernel(kernel, total, order, strategy, given)

    if signature.operator is None or code is None or strategy or order.by_name:
        return run
    operator, operands, positional = signature.operator.call, signature.operands, order.positional

    def run_operator(_: Any, arguments: Arguments) -> Tensor:
        given = [*arguments, None]  # the last is for operands that are None
        for position, step in steps:
            given[position] = step(given[position])
        if has_torch_function(given):
            return kernel(*[given[i] for i in positional])
        given[order.reduction] = code
        return operator(*[given[i] for i in operands])

    return run_operator


def run_kernel(
    kernel: Kernel, total: Total | None, order: Order, strategy: str, given: list[Any]
) -> Tensor:
    """The loss, reduced by PyTorch or as `strategy` says. A compiler traces this, too."""
    native = [*given]
    if strategy:
        for position in order.legacy:
            native[position] = None
        native[order.reduction] = "none"
    by_name = {order.names[i]: native[i] for i in order.by_name}
    loss = kernel(*[native[i] for i in order.positional], **by_name)
    return _reduced(loss, total, strategy, dict(zip(order.names, given))) if strategy else loss


def _reduced(loss: Tensor, total: Total | None, strategy: str, named: Named) -> Tensor:
    """The unreduced `loss`, reduced as `strategy` says."""
    if strategy == "sum":
        return loss.sum()
    if strategy == "mean":
        return loss.mean()
    half = loss.dtype in (torch.float16, torch.bfloat16)
    divisor: Any = None
    if total is not None and strategy == "total":
        weight = named.get("weight")
        if half and weight is not None:  # whose total may overflow
            named = {**named, "weight": weight.float()}
        divisor = total(named)
    if divisor is None:
        count = loss.shape[0] if named.get("reduction") == "batchmean" else loss.numel()
        divisor = torch.sym_max(count, 1)
    else:
        divisor = torch.where(divisor == 0, 1, divisor)
    if half:  # PyTorch's means accumulate in float32, and a half sum may overflow
        return (loss.sum(dtype=torch.float32) / divisor).to(loss.dtype)
    return loss.sum() / divisor
