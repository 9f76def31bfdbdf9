"""What the numbers in a layout must be: rules as data, each with the words for a message.

A layout carries its rules (`Annotated[Float[Tensor, ...], Between(0, 1)]`). Reading a tensor
costs time, and on a GPU it waits for the device; when to do it is `check_values`' to say.

A number that is right up to rounding is right. A number may have been stored in a coarser type
than the one that it comes in, so the tolerance is that of the coarsest, bfloat16.
"""

import abc
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.labels import (
    are_among,
    are_pixels,
    are_probabilities,
    are_whole,
    distinct,
    listed,
)
from safeloss._contract.model import Offer
from safeloss._contract.options import MEANS, ignored_index

_ROUNDING = 2 * torch.finfo(torch.bfloat16).eps  # how far off an end of an interval may be
SUM_ROUNDING = 1e-2  # how far off a sum of probabilities may be


def _tolerance(values: Tensor) -> float:
    """How far a number may lie outside an interval; integers are exact."""
    return _ROUNDING if values.is_floating_point() else 0.0


def _eps(values: Tensor) -> float:
    return torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0


def summed(values: Tensor, axis: int) -> Tensor:
    """The sum over `axis`, which stays with size 1; half precision is summed in float32."""
    half = values.dtype in (torch.float16, torch.bfloat16)
    return values.sum(axis, keepdim=True, dtype=torch.float32 if half else None)


def class_axis_of(values: Tensor) -> int:
    """The axis of the classes in a tensor as PyTorch gets it."""
    return 1 if values.dim() > 1 else 0


class ValueContext(NamedTuple):
    """The call whose values are read: its arguments as PyTorch gets them, and all that is known."""

    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    axes: Mapping[str, Any]
    classes: int | None = None  # the axis of the classes in the tensor that is looked at
    masks: Mapping[str, Tensor] = MappingProxyType({})  # by argument: what counts, if not all does

    @property
    def ignored(self) -> int | None:
        return ignored_index(self.options)

    def beyond(self, values: Tensor, axis: str) -> Tensor:
        """True where an index lies past the end of `axis`, if its size is known."""
        size = self.axes.get(axis)
        return torch.zeros_like(values, dtype=torch.bool) if size is None else values >= size


class Note:
    """What a layout says of its numbers. Two notes of the same class are equal."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Rule(Note, abc.ABC):
    """What every number of a tensor must be; one that is not is a `ValueRangeError`."""

    code: str  # of `codes`

    @abc.abstractmethod
    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        """True where the rule is broken, in the shape of `values`, or one verdict for all."""

    def describe_violation(self, values: Tensor, index: list[int], axis: int) -> str:
        """What stands at `index`, the first place where it is broken; `axis` holds the classes."""
        return f"{values[tuple(index)].item():g}"

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        """What to say of all numbers of the argument `name`, and of those that break the rule."""
        return ""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        """What may fix it, by the numbers that were found; `{0}` is the argument."""
        yield from ()


def _mark_of_unknown(wrong: Tensor, values: Tensor) -> str | None:
    """What data sets write for a label that is not known, if that is all that is wrong; some labels
    must be left."""
    numbers = distinct(wrong)
    if len(numbers) > 1 or wrong.numel() == values.numel() or not are_whole(wrong):
        return None
    return f"{numbers[0]:g}" if numbers[0] < 0 or numbers[0] == 255 else None


class NotNaN(Rule):
    """No number may be NaN. It comes before all other rules, since NaN breaks every comparison."""

    code = codes.NAN

    def __str__(self) -> str:
        return "is NaN, which is no number"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        return torch.isnan(values)


class NotMissing(NotNaN):
    """`NotNaN` of targets, where NaN may stand for one that is not known: the fix masks it out."""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        if "mask" in context.arguments and wrong.numel() < values.numel():
            yield Offer("{loss}(mask=~{0}.isnan())", "NaN marks targets that are missing")


@dataclass(frozen=True)
class Between(Rule):
    low: float
    high: float
    exact: bool = False  # where PyTorch itself refuses what rounding left outside
    code: str = codes.LABELS_OUTSIDE
    scores: bool = False  # whether raw scores may have been given for probabilities

    def __str__(self) -> str:
        return f"must be between {self.low:g} and {self.high:g}"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        return self._outside(values, 0.0 if self.exact else _tolerance(values))

    def _outside(self, values: Tensor, tolerance: float) -> Tensor:
        outside = (values < self.low - tolerance) | (values > self.high + tolerance)
        return outside & (values != math.inf)  # of which `Finite` warns

    def describe_violation(self, values: Tensor, index: list[int], axis: int) -> str:
        if self._outside(values, _tolerance(values)).any():
            return super().describe_violation(values, index, axis)
        return f"{values[tuple(index)].item():.9g}, which is outside only by rounding"

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        return f"`{name}` holds {listed(values)}." if values.numel() > 1 else ""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        if not self._outside(values, _tolerance(values)).any():
            yield Offer(f"{{0}}.clamp({self.low:g}, {self.high:g})")
        elif are_pixels(values):
            yield Offer("{0} / 255", "`{0}` is an image with numbers from 0 to 255")
            if values.max() <= 100:
                yield Offer("{0} / 100", "`{0}` holds percentages")
        elif self.scores:
            negative = bool((values < 0).any()) and not are_whole(values)
            when = "" if negative else "`{0}` holds scores, before a sigmoid"
            yield Offer("{0}.sigmoid()", when)
            yield Offer("SafeBCEWithLogitsLoss()(input, target)", when)
        elif are_among(values, 1, -1):
            both = bool((values == 1).any())
            yield Offer("({0} + 1) / 2", "" if both else "-1 means no and 1 means yes")
        elif are_among(values, 1, 2):
            yield Offer("{0} - 1", "1 means no and 2 means yes")
        else:
            if are_among(values, 0, 255):
                yield Offer("{0} / 255", "255 means yes")
            mark = _mark_of_unknown(wrong, values)
            if mark is not None and "mask" in context.arguments:
                yield Offer(f"{{loss}}(mask={{0}} != {mark})", f"{mark} marks unknown labels")


class Sign(Rule):
    code = codes.SIGNS

    def __str__(self) -> str:
        return "must be -1 or 1"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        return (values != 1) & (values != -1)

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        found = listed(values)
        return f"`{name}` holds {found}." if found else ""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        signed = "{0}.float()" if values.dtype in (torch.bool, torch.uint8) else "{0}"
        if are_among(values, 1, 0):
            no = "False" if values.dtype == torch.bool else "0"
            yield Offer(f"{signed} * 2 - 1", f"{no} stands for -1")
        elif are_among(values, 1, 2):
            yield Offer(f"{signed} * 2 - 3", "1 means no and 2 means yes")


def _only_axis(values: Tensor) -> int | None:
    """The one axis along which the numbers are probabilities; None if there is not exactly one."""
    axes = [axis for axis in range(values.dim()) if are_probabilities(values, axis)]
    if values.dim() < 3:  # the first axis counts the samples
        axes = [axis for axis in axes if axis == values.dim() - 1]
    return axes[0] if len(axes) == 1 else None


class LogProbability(Rule):
    code = codes.NO_LOG_PROBABILITIES

    def __str__(self) -> str:
        return "must be log-probabilities, which are never above 0"

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        classes = axis if "classes" in context.axes else self._target_class_axis(context)
        if classes is None:
            return
        if are_probabilities(values, classes):
            yield Offer("{0}.log()")
        elif (values < 0).any() or (values > 1 + _ROUNDING).any():
            negative = bool((values < 0).any())
            when = "" if negative else "`{0}` holds scores, before a softmax"
            yield Offer(f"{{0}}.log_softmax({classes})", when)

    def _target_class_axis(self, context: ValueContext) -> int | None:
        """The axis of the classes in the target."""
        target = context.arguments.get("target")
        if not isinstance(target, Tensor) or not target.is_floating_point():
            return None
        return _only_axis(target.exp() if context.options.get("log_target") else target)

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        # Of many classes every probability is close to 0, and so within the tolerance. Where no
        # number is negative and their sum is positive, they are probabilities, not logarithms.
        least = 8 * _eps(values)
        logarithms = (values < 0).any() | (values.sum() <= _ROUNDING)
        positive = values > torch.where(logarithms, _ROUNDING, least)
        return positive & (values != math.inf)  # of which `Finite` warns


@dataclass(frozen=True)
class NotNegative(Rule):
    code = codes.NEGATIVE
    unless: str = ""  # an option: where it is set, the numbers are logarithms
    exact: bool = False  # where PyTorch itself refuses what rounding left outside

    def __str__(self) -> str:
        return "must not be negative"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        if context.options.get(self.unless):
            return values.new_zeros((), dtype=torch.bool)
        return values < (0.0 if self.exact else -_tolerance(values))

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        if self.unless:
            yield Offer(f"{{loss}}({self.unless}=True)", "`{0}` holds logarithms")


class TargetProbability(NotNegative):
    """The target of a divergence: a logarithm of a probability is never above 0."""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        scores = context.arguments["input"]
        if not (values > _ROUNDING).any():
            yield from super().offers(values, wrong, context, axis)
        elif scores.is_floating_point():
            classes = _only_axis(scores.exp())
            if classes is not None:
                yield Offer(f"{{0}}.softmax({classes})", "`{0}` holds scores, before a softmax")


class Variance(NotNegative):
    """A variance, which models often give as its logarithm."""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        yield Offer("{0}.exp()", "`{0}` holds logarithms of variances")
        yield Offer("{loss}(input, {0}, target)", "the variance was given before the target")


class NotNegativeInMean(NotNegative):
    """A weight whose sum a mean is divided by must not be negative; else it may have any sign."""

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        averaged = context.options.get("reduction", "mean") in MEANS
        if not averaged or context.arguments.get("denominator") is not None:
            return values.new_zeros((), dtype=torch.bool)
        return super().broken(values, context)


class ClassSet(Rule):
    code = codes.CLASS_SETS

    def __str__(self) -> str:
        return "must be class indices from 0 up, and after the last one -1"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        return (values < -1) | context.beyond(values, "classes")


class ClassIndex(Rule):
    code = codes.CLASS_INDEX

    def __str__(self) -> str:
        return "must be class indices, from 0 to the number of classes - 1, or `ignore_index`"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        outside = (values < 0) | context.beyond(values, "classes")
        return outside if context.ignored is None else outside & (values != context.ignored)

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        classes = context.axes.get("classes")
        known = "" if classes is None else f"There are {classes} classes (0 to {classes - 1}). "
        return f"{known}Not allowed: {listed(wrong)}."

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        classes, ignored = context.axes.get("classes"), context.ignored
        counted = values if ignored is None else values[values != ignored]
        if counted.min() == 1:
            shifted = "{0} - 1"
            if counted.numel() < values.numel():
                shifted = f"{{0}}.where({{0}} == {ignored}, {{0}} - 1)"
            yield Offer(shifted, "labels count from 1")
        if classes == 2 and are_among(counted, 0, 255):
            yield Offer("({0} == 255).long()", "255 is the foreground")
        if classes == 2 and are_among(counted, 1, -1):
            yield Offer("({0} == 1).long()", "-1 means class 0 and 1 means class 1")
        mark = _mark_of_unknown(wrong, values)
        if mark is not None and context.ignored == -100 and counted.numel() == values.numel():
            yield Offer(f"{{loss}}(ignore_index={mark})", f"{mark} marks unknown labels")


class SumToOne(Rule):
    code = codes.SUM_TO_ONE

    def __str__(self) -> str:
        return "must be probabilities: not negative, and summing to 1 over the classes"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        tolerance = max(SUM_ROUNDING, 2 * _eps(values))
        unnormalised = (summed(values, class_axis_of(values)) - 1).abs() > tolerance
        return (values < -_ROUNDING) | unnormalised

    def describe_violation(self, values: Tensor, index: list[int], axis: int) -> str:
        others = tuple(i for d, i in enumerate(index) if d != axis)
        total = values.movedim(axis, -1)[others].sum().item()
        return (
            f"{super().describe_violation(values, index, axis)}, where the classes sum to {total:g}"
        )

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        if values.dim() > 2:
            yield Offer("{loss}(class_dim=-1)", "the last axis holds the classes")
        if are_among(values, 0, 1):
            if values.dim() == 2 and bool((values.sum(axis) <= 1).all()):
                rows = f"{{0}}.any({axis})"
                yield Offer(
                    f"{{loss}}(input[{rows}], {{0}}[{rows}])", "a row of zeros has no label"
                )
            yield Offer(
                "MultiLabelBCE()(input, target)", "several classes may be right at once (multi-hot)"
            )


class Broken(NamedTuple):
    """A rule that does not hold, and where: a mask, or one verdict for all."""

    rule: Rule
    mask: Tensor


def first_broken(
    values: Tensor, rules: tuple[Any, ...], context: ValueContext, counted: Tensor | None = None
) -> Broken | None:
    """The first of `rules` that `values` break, where they are `counted`."""
    for rule in rules:
        if isinstance(rule, Rule) and is_legible(values):
            try:
                mask = rule.broken(values, context)
                if counted is not None and mask.dim():
                    mask = mask & counted
                if mask.any():
                    return Broken(rule, mask)
            except RuntimeError:
                continue  # float8, complex, ...: torch cannot compare or reduce what they hold
    return None


def is_legible(values: Tensor) -> bool:
    """Whether there are numbers that can be compared one by one."""
    return values.layout is torch.strided and not (values.is_quantized or values.is_nested)
