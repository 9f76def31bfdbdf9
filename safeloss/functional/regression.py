"""Losses for numbers and for distributions: one prediction and one target each."""

from typing import Any, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from safeloss._contract import mistakes
from safeloss._contract.options import CheckValues, Empty, Reduction
from safeloss._runtime import operators
from safeloss._runtime.checked import checked
from safeloss._torch import unread
from safeloss.layouts import (
    Counts,
    Denominator,
    LogProbabilities,
    Means,
    MeanTargets,
    PerPrediction,
    Predictions,
    Rates,
    SampleMask,
    SampleWeights,
    TargetProbabilities,
    Targets,
    Variances,
)

F: Any = torch.nn.functional  # whose stubs lack `weight`


def counts(weight: Tensor | None) -> Tensor | None:
    """`weight`, where it is given."""
    return weight


@checked(native=F.l1_loss, operator=operators.L1_LOSS, mistakes=mistakes.NUMBERS, counts=counts)
def l1_loss(
    input: Predictions,
    target: Targets,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    weight: PerPrediction | None = None,
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.l1_loss`, with every prediction meeting its target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """
    return F.l1_loss(input, target, size_average, reduce, reduction, weight)


@checked(native=F.mse_loss, operator=operators.MSE_LOSS, mistakes=mistakes.NUMBERS, counts=counts)
def mse_loss(
    input: Predictions,
    target: Targets,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    weight: PerPrediction | None = None,
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.mse_loss`, with every prediction meeting its target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """
    return F.mse_loss(input, target, size_average, reduce, reduction, weight)


@checked(native=F.smooth_l1_loss, operator=operators.SMOOTH_L1_LOSS, mistakes=mistakes.NUMBERS)
def smooth_l1_loss(
    input: Predictions,
    target: Targets,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    beta: float = 1.0,
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.smooth_l1_loss`, with every prediction meeting its target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """
    return F.smooth_l1_loss(input, target, size_average, reduce, reduction, beta)


@checked(native=F.huber_loss, operator=operators.HUBER_LOSS, mistakes=mistakes.NUMBERS)
def huber_loss(
    input: Predictions,
    target: Targets,
    reduction: Reduction = "mean",
    delta: float = 1.0,
    weight: PerPrediction | None = None,
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.huber_loss`, with every prediction meeting its target.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a NaN in the targets, where values are read.
    """
    return F.huber_loss(input, target, reduction, delta, weight)


@checked(native=F.poisson_nll_loss, operator=operators.POISSON_NLL_LOSS)
def poisson_nll_loss(
    input: Rates,
    target: Counts,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*shape"]:
    """`torch.nn.functional.poisson_nll_loss`, with every rate meeting its count.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is negative or NaN, or a
            negative rate without `log_input`, where values are read.
    """
    return F.poisson_nll_loss(input, target, log_input, full, size_average, eps, reduce, reduction)


@checked(native=F.kl_div, operator=operators.KL_DIV, mistakes=mistakes.KL_DIV)
def kl_div(
    input: LogProbabilities,
    target: TargetProbabilities,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: Literal["none", "batchmean", "mean", "sum"] = "mean",
    log_target: bool = False,
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Float[Tensor, "*shape"]:
    """`torch.nn.functional.kl_div`, with every log-probability meeting its target.

    "mean" divides by all elements and warns, as in torch; "batchmean" is the divergence.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: inputs that are
            positive, or targets that are negative without `log_target`, where values are read.
    """
    return F.kl_div(input, target, size_average, reduce, reduction, log_target)


@checked(native=F.gaussian_nll_loss, operator=operators.GAUSSIAN_NLL_LOSS)
def gaussian_nll_loss(
    input: Means,
    target: MeanTargets,
    var: Variances | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
    *,
    check_values: CheckValues = "first",
    empty: Empty = "warn",
    sample_weight: SampleWeights | None = None,
    mask: SampleMask | None = None,
    denominator: Denominator | None = None,
) -> Shaped[Tensor, "*batch outputs"] | Shaped[Tensor, ""]:
    """`torch.nn.functional.gaussian_nll_loss`, with every mean meeting its target.

    `var` has the shape of `input`, or lacks its last axis, or has one axis of size 1 instead.
    Torch reads `var` to see that it is not negative; where it cannot be read (`torch.compile`,
    `torch.export`, `torch.func`), that is left out, and the rest is the same.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a negative variance (always), or a NaN target, where values are read.
    """
    if unread(var):
        code = operators.NUMBERS[reduction]
        return operators.gaussian_nll(input, target, var, full, eps, code)
    return F.gaussian_nll_loss(input, target, var, full, eps, reduction)
