"""Reductions that PyTorch's own kernels do not have: weights, masks and counts that are given with
the call, and means over zero elements.

With the unreduced loss `l`, the sample weight `w`, the mask `m`, and `d`, which is what PyTorch's
own mean counts for each element, the mean is `sum(w m l) / sum(w m d)`.
"""

# Dynamo of torch 2.6 makes no inner function with annotations but strings.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._runtime.signature import Counting, Order
from safeloss.errors import LayoutError

COUNT_RULE = "`denominator` must be a number above 0, and below 2**63"
COUNT_ADVICE = "It is the count over all micro-batches. Where that is 0, there is nothing to learn."
Reducer: TypeAlias = Callable[[Tensor, Sequence[Any]], Tensor]  # and all arguments of the kernel
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


def reducer(strategy: tuple[str, ...], counting: Counting, order: Order) -> Reducer:
    """How what PyTorch gives is reduced, as `strategy` says: see `Contract.strategy`.

    All that is known of a form of calls is decided here, and not at each of them.
    """
    if strategy == ("divided",):
        return _divided(order)
    reduce = (_weighted if "weighted" in strategy else _unweighted)(strategy, counting, order)
    return _with_rows(reduce) if "rows" in strategy else reduce


def _divided(order: Order) -> Reducer:
    denominator_at = order.at_call[2]

    def reduce(total: Tensor, given: Sequence[Any]) -> Tensor:
        return _quotient(total, given[denominator_at], total.dtype)

    return reduce


def _with_rows(reduce: Reducer) -> Reducer:
    """Each unreduced number is a mean over the last axis of the input, be it of size 0."""

    def of_rows(loss: Tensor, given: Sequence[Any]) -> Tensor:
        classes = torch.full_like(loss, given[0].shape[-1])
        return reduce(torch.where(classes == 0, 0, loss), given)

    return of_rows


def _unweighted(strategy: tuple[str, ...], counting: Counting, order: Order) -> Reducer:
    """Reductions without weights and masks, also over zero elements."""
    count, counted_from = (counting[0] if "total" in strategy else None) or (None, ())
    by_count, by_batch = "count" in strategy or "total" in strategy, "batchmean" in strategy
    given_back, summed = "none" in strategy, "sum" in strategy

    def reduce(loss: Tensor, given: Sequence[Any]) -> Tensor:
        if given_back:
            return loss
        if summed:
            return loss.sum()
        counted = None
        if count is not None:
            counted = count(*[given[i] for i in counted_from])
        elif not by_count:
            return loss.mean()
        if counted is None:
            size = loss.shape[0] if by_batch else loss.numel()
            return _mean(loss, torch.sym_max(size, 1))
        return _mean(loss, _not_zero(_sum(counted)))

    return reduce


def _weighted(strategy: tuple[str, ...], counting: Counting, order: Order) -> Reducer:
    """Reductions with a weight, a mask or a denominator; the first two are views that fit."""
    weight_at, mask_at, denominator_at = order.at_call
    count, counted_from = counting[0] or (None, ())
    length, length_from = counting[1] or (None, ())
    masked, undeclared = "masked" in strategy, "undeclared" in strategy
    given_back, summed, narrow = "none" in strategy, "sum" in strategy, "narrow" in strategy
    divided, zero = "divided" in strategy, "zero" in strategy
    by_batch, shared = "batchmean" in strategy, "shared" in strategy

    def reduce(loss: Tensor, given: Sequence[Any]) -> Tensor:
        # Not the loss itself, whose memory is free as soon as it was multiplied.
        dtype, shape = loss.dtype, loss.shape if undeclared else ()
        weight: Any = given[weight_at]
        mask: Any = given[mask_at]
        if masked:  # otherwise PyTorch has left them out
            loss = torch.where(mask, loss, 0)
        factor = mask
        if weight is not None:
            factor = weight if mask is None else torch.where(mask, weight, 0)
            loss = loss * factor
        if undeclared and loss.shape != shape:
            raise LayoutError(
                f"[{codes.PER_SAMPLE}] the weights or the mask enlarge the unreduced loss."
            )
        if given_back or summed:
            result = loss if given_back else loss.sum()
            return result.to(dtype) if narrow else result
        if divided:
            divisor = given[denominator_at]
        else:
            counted = factor
            if by_batch:
                counted = factor.expand((*loss.shape[:1], *[1] * (loss.dim() - 1)))
            elif shared:
                counted = factor.expand(loss.shape)
            if length is not None:
                loss = loss / length(*[given[i] for i in length_from])
            if count is not None:
                own = count(*[given[i] for i in counted_from])
                counted = counted if own is None else own * factor
            divisor = _sum(counted)
            if zero:
                divisor = _not_zero(divisor)
        # A loss of half precision and a weight of float32 make float32, as by hand.
        mean = _quotient(_sum(loss), divisor, loss.dtype)
        return mean.to(dtype) if narrow else mean

    return reduce


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
