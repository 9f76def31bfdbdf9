"""Reductions that PyTorch's own kernels do not have: weights, masks and counts that are given with
the call, and means over zero elements.

With the unreduced loss `l`, the sample weight `w`, the mask `m`, and `d`, which is what PyTorch's
own mean counts for each element, the mean is `sum(w m l) / sum(w m d)`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._runtime.signature import Counting, Order
from safeloss.errors import LayoutError

COUNT_RULE = "`denominator` must be a number above 0, and below 2**63"
COUNT_ADVICE = "It is the count over all micro-batches. Where that is 0, there is nothing to learn."
_MOST = 2**63 - 1  # of the integers that PyTorch divides by
_HALF = (torch.float16, torch.bfloat16)


def broken_count_rule(count: Any, holds: Callable[[Any], bool]) -> str:
    """What is wrong with a count that is no tensor, or ""; `holds` says if a comparison is so."""
    if holds(count > _MOST) or holds(count < -_MOST):  # which may have too many digits to print
        return f"{COUNT_RULE}; it is far outside."
    if isinstance(count, bool) or holds(count <= 0) or holds(count != count):
        return f"{COUNT_RULE}; it is {count}."
    return ""


def native_reduction(strategy: tuple[str, ...]) -> str:
    """What PyTorch is asked for, where `strategy` says how its result is reduced."""
    return "sum" if strategy == ("divided",) else "none"


def reduced(
    loss: Tensor,
    counting: Counting,
    order: Order,
    strategy: tuple[str, ...],
    given: Sequence[Any],
) -> Tensor:
    """What PyTorch gave, reduced as `strategy` says; `given` are the arguments of the kernel."""
    if strategy == ("divided",):
        return _quotient(loss, given[order.at_call[2]], loss.dtype)
    if "rows" in strategy:  # each is a mean over the last axis, be it of size 0
        classes = torch.full_like(loss, given[0].shape[-1])
        loss = torch.where(classes == 0, 0, loss)
    if "weighted" in strategy:
        result = _weighted(loss, counting, order, strategy, given)
        return result.to(loss.dtype) if "narrow" in strategy else result
    if "none" in strategy:
        return loss
    if "sum" in strategy:
        return loss.sum()
    counts, _ = counting
    counted = None
    if "total" in strategy and counts is not None:
        counted = counts(dict(zip(order.names, given)))
    elif "count" not in strategy:
        return loss.mean()
    if counted is None:
        size = loss.shape[0] if "batchmean" in strategy else loss.numel()
        return _mean(loss, torch.sym_max(size, 1))
    return _mean(loss, _not_zero(_sum(counted)))


def _weighted(
    loss: Tensor,
    counting: Counting,
    order: Order,
    strategy: tuple[str, ...],
    given: Sequence[Any],
) -> Tensor:
    """The loss with a weight, a mask or a denominator; the first two are views that fit it."""
    weight, mask, denominator = [given[position] for position in order.at_call]
    shape = loss.shape
    factor: Any = mask
    if weight is not None:
        factor = weight if mask is None else torch.where(mask, weight, 0)
    if mask is not None and "masked" in strategy:  # otherwise PyTorch has left them out
        loss = torch.where(mask, loss, 0)
    if weight is not None:
        loss = loss * factor
    if "undeclared" in strategy and loss.shape != shape:
        raise LayoutError(
            f"[{codes.PER_SAMPLE}] the weights or the mask enlarge the unreduced loss."
        )
    if "none" in strategy:
        return loss
    if "sum" in strategy:
        return loss.sum()
    if denominator is not None:
        return _mean(loss, denominator)
    counts, lengths = counting
    counted: Any = factor
    if "batchmean" in strategy:
        counted = factor.expand((*shape[:1], *[1] * (len(shape) - 1)))
    elif "shared" in strategy:
        counted = factor.expand(shape)
    if counts is not None or lengths is not None:
        named = dict(zip(order.names, given))
        loss = loss if lengths is None else loss / lengths(named)
        own = None if counts is None else counts(named)
        counted = counted if own is None else own * factor
    divisor = _sum(counted)
    return _mean(loss, _not_zero(divisor) if "zero" in strategy else divisor)


def mean_of(loss: Tensor, counted: Tensor | None) -> Tensor:
    """The mean, where each unreduced number counts as `counted` says; None is once."""
    return loss.mean() if counted is None else _mean(loss, _sum(counted))


def _mean(loss: Tensor, divisor: Any) -> Tensor:
    return _quotient(_sum(loss), divisor, loss.dtype)


def _sum(numbers: Tensor) -> Tensor:
    """The sum, of half precision in float32: PyTorch's means accumulate so, and it may overflow."""
    return numbers.sum(dtype=torch.float32) if numbers.dtype in _HALF else numbers.sum()


def _quotient(total: Tensor, divisor: Any, dtype: torch.dtype) -> Tensor:
    """`total / divisor`, which a divisor of float64 does not widen."""
    quotient = total / divisor
    if quotient.dtype == dtype or not dtype.is_floating_point:
        return quotient
    return quotient.to(dtype)


def _not_zero(divisor: Tensor) -> Tensor:
    return torch.where(divisor == 0, 1, divisor)
