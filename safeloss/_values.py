"""What the numbers in a layout must be: rules as data, each with the words for a message.

A layout carries its rules (`Annotated[Float[Tensor, ...], Between(0, 1)]`). Reading a tensor
costs time, and on a GPU it waits for the device; when to do it is `check_values`' to say.

A number that is right up to rounding is right. A number may have been stored in a coarser type
than the one that it comes in, so the tolerance is that of the coarsest, bfloat16.
"""

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._activations import Origin, origin
from safeloss._options import ignored_index

_ROUNDING = 2 * torch.finfo(torch.bfloat16).eps  # how far off an end of an interval may be
_SUM_ROUNDING = 1e-2  # how far off a sum of probabilities may be


def _tolerance(values: Tensor) -> float:
    """Integers are exact."""
    return _ROUNDING if values.is_floating_point() else 0.0


def _eps(values: Tensor) -> float:
    return torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0


def _sum(values: Tensor, axis: int) -> Tensor:
    """Sums of half precision are not rounded to half precision."""
    half = values.dtype in (torch.float16, torch.bfloat16)
    return values.sum(axis, keepdim=True, dtype=torch.float32 if half else None)


def as_lengths(value: Any) -> Tensor | None:
    """Lengths as PyTorch takes them (a tensor, integers, 0-d tensors); None for anything else."""
    try:
        return torch.as_tensor(value).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        return None


class Seen(NamedTuple):
    """The call whose values are read: its arguments as native gets them, and all that is known."""

    arguments: Mapping[str, Any]
    options: Mapping[str, Any]
    axes: Mapping[str, Any]
    classes: int | None = None  # the axis of the classes in the tensor that is looked at

    @property
    def ignored(self) -> int | None:
        return ignored_index(self.options)

    def beyond(self, values: Tensor, axis: str) -> Tensor:
        """True where an index lies past the end of `axis`, if its size is known."""
        size = self.axes.get(axis)
        return torch.zeros_like(values, dtype=torch.bool) if size is None else values >= size


class _Note:
    """What a layout says of its numbers; without data of its own, equal to all of its kind."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Rule(_Note, abc.ABC):
    """What every number of a tensor must be; one that is not is a `ValueRangeError`."""

    # What may mend it, offered if it does: edits of the argument (`{0}`; `{axis}` is the axis of
    # the classes) and whole calls, each with the values it is meant for, and options to be added.
    fixes: tuple[tuple[str, frozenset[float] | None], ...] = ()
    options: tuple[str, ...] = ()

    @abc.abstractmethod
    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        """True where the rule is broken, in the shape of `values`, or one verdict for all."""

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        """What stands at `index`, the first place where it is broken; `axis` holds the classes."""
        return f"{values[tuple(index)].item():g}"


class Suspicion(_Note, abc.ABC):
    """What is legal and very likely a mistake; it warns."""

    least = 16  # elements; fewer may look like anything

    @abc.abstractmethod
    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        """Whether to warn of `values`."""

    def said(self, values: Tensor, seen: Seen) -> str:
        """What to say of `values`; nothing where they are fine."""
        return str(self) if self.holds(values, seen) else ""


class NotNaN(Rule):
    """Nothing is known of a number that is missing, so it comes before all other rules."""

    def __str__(self) -> str:
        return "is NaN, which is no number"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return torch.isnan(values)


class NotMissing(NotNaN):
    """The same where NaN may stand for a target that is not known."""

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        where = "leave missing targets out, as in the recipe of docs/limits.md"
        return f"{super().found(values, index, axis)}; {where}"


class Finite(Suspicion):
    """Predictions: -inf is how classes are masked, and NaN and inf are a mistake further up."""

    least = 1

    def __str__(self) -> str:
        return "holds NaN or inf"

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        return (torch.isnan(values) | self._infinite(values)).any()

    def said(self, values: Tensor, seen: Seen) -> str:
        if not (values.is_floating_point() or values.is_complex()) or not self.holds(values, seen):
            return ""
        missing = torch.isnan(values)
        name, mask = ("NaN", missing) if missing.any() else ("inf", self._infinite(values))
        return (
            f"holds {name}, first at {mask.nonzero()[0].tolist()}, and so the loss or its gradient "
            "may be NaN. Look for what made it: a division by 0, a logarithm of 0, an overflow in "
            "half precision, or a learning rate that is too high"
        )

    def _infinite(self, values: Tensor) -> Tensor:
        return torch.isinf(values) if values.is_complex() else torch.isposinf(values)


@dataclass(frozen=True)
class Between(Rule):
    low: float
    high: float
    fixes: tuple[tuple[str, frozenset[float] | None], ...] = (
        ("({0} + 1) / 2", frozenset({-1.0, 1.0})),
        ("{0} - 1", frozenset({1.0, 2.0})),
        ("{0} / 255", frozenset({0.0, 255.0})),
    )
    exact: bool = False  # where PyTorch itself refuses what rounding left outside

    def __str__(self) -> str:
        return f"must lie in [{self.low:g}, {self.high:g}]"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return self._outside(values, 0.0 if self.exact else _tolerance(values))

    def _outside(self, values: Tensor, tolerance: float) -> Tensor:
        outside = (values < self.low - tolerance) | (values > self.high + tolerance)
        return outside & (values != math.inf)  # of which `Finite` warns

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        value = values[tuple(index)]
        if self._outside(value, _tolerance(value)):
            return super().found(values, index, axis)
        clamp = f"clamp({self.low:g}, {self.high:g})"
        return f"{value.item():.9g}, which only rounding left outside: `.{clamp}` mends it"


class Sign(Rule):
    fixes = (
        ("{0} * 2 - 1", frozenset({0.0, 1.0})),
        ("{0} * 2 - 3", frozenset({1.0, 2.0})),
    )

    def __str__(self) -> str:
        return "must be -1 or 1"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return (values != 1) & (values != -1)


class LogProbability(Rule):
    fixes = (("{0}.log_softmax({axis})", None),)

    def __str__(self) -> str:
        return "must be log-probabilities, which are not positive"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        # Of many classes every probability is as small as an error of rounding: where no number
        # is negative and they add up to more, they are probabilities, and no logarithms.
        least = 8 * _eps(values)
        logarithms = (values < 0).any() | (values.sum() <= _ROUNDING)
        positive = values > torch.where(logarithms, _ROUNDING, least)
        return positive & (values != math.inf)  # of which `Finite` warns


@dataclass(frozen=True)
class NotNegative(Rule):
    unless: str = ""  # an option: where it is set, the numbers are logarithms
    exact: bool = False  # where PyTorch itself refuses what rounding left outside

    def __str__(self) -> str:
        return "must not be negative"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        if self.unless and seen.options.get(self.unless):
            return values.new_zeros((), dtype=torch.bool)
        return values < (0.0 if self.exact else -_tolerance(values))


class ClassSet(Rule):
    def __str__(self) -> str:
        return "must be class indices, and then -1"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return (values < -1) | seen.beyond(values, "classes")


class Labelling(Rule):
    """The labels of `CTCLoss`, of which the padding is never read."""

    def __str__(self) -> str:
        return "must be class indices, and not `blank`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        counted = torch.ones_like(values, dtype=torch.bool)
        lengths = as_lengths(seen.arguments.get("target_lengths"))
        if values.dim() > 1 and lengths is not None:
            counted = _within(values, lengths.to(values.device))
        wrong = (values < 0) | seen.beyond(values, "classes")
        if "blank" in seen.options:
            wrong |= values == seen.options["blank"]
        return counted & wrong


def _within(rows: Tensor, lengths: Tensor) -> Tensor:
    """True where padded rows have not ended."""
    return torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]


class WithinTime(Rule):
    def __str__(self) -> str:
        return "must lie between 0 and the size of the time axis of `log_probs`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        return (values < 0) | (seen.beyond(values, "time") & (values != seen.axes.get("time")))


class WithinTargets(Rule):
    def __str__(self) -> str:
        return "must lie between 0 and the length of `targets`, or add up to it"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        targets = seen.arguments.get("targets")
        if targets is None:
            return values < 0
        if targets.dim() > 1 or "batch" not in seen.axes:
            return (values < 0) | (values > targets.shape[-1])
        return (values < 0) | (values.sum() != targets.shape[0])


class ClassIndex(Rule):
    fixes = (("{0} - 1", None),)
    options = ("ignore_index={value}",)

    def __str__(self) -> str:
        return "must be class indices, from 0 to the number of classes - 1, or `ignore_index`"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        outside = (values < 0) | seen.beyond(values, "classes")
        return outside if seen.ignored is None else outside & (values != seen.ignored)


class SumToOne(Rule):
    fixes = (("MultiLabelBCE()(input, target)", frozenset({0.0, 1.0})),)
    options = ("class_dim=-1",)

    def __str__(self) -> str:
        return "must be probabilities: not negative, and summing to 1 over the classes"

    def broken(self, values: Tensor, seen: Seen) -> Tensor:
        tolerance = max(_SUM_ROUNDING, 2 * _eps(values))
        unnormalised = (_sum(values, _classes(values)) - 1).abs() > tolerance
        return (values < -_ROUNDING) | unnormalised

    def found(self, values: Tensor, index: list[int], axis: int) -> str:
        others = tuple(i for d, i in enumerate(index) if d != axis)
        total = values.movedim(axis, -1)[others].sum().item()
        return f"{super().found(values, index, axis)}, where the classes sum to {total:g}"


def _classes(values: Tensor) -> int:
    """The axis of the classes in what native gets."""
    return 1 if values.dim() > 1 else 0


class Wrong(NamedTuple):
    """An activation that makes a loss wrong."""

    activation: str
    advice: str
    over_classes: bool | None = None  # only where it does, or does not; None: wherever it is taken

    def about(self, origin: Origin) -> str | None:
        """What to say of a tensor that comes out of it; None where that cannot be told."""
        if self.over_classes is not None and origin.over_classes is None:
            return None
        if self.over_classes not in (None, origin.over_classes):
            return ""
        over = {
            None: "",
            True: " over the classes",
            False: f" over axis {origin.axis}, which does not hold the classes",
        }[origin.over_classes]
        return f"comes out of a {self.activation}{over}, and {self.advice}"


def _twice(itself: str) -> str:
    return f"this loss applies the {itself} itself: remove the {itself} and pass the raw scores"


def _instead(activation: str, itself: str) -> str:
    return f"this loss applies a {itself}: remove the {activation} and pass the raw scores"


class _Activated(Suspicion):
    """Scores after an activation that makes the loss wrong.

    The graph that made them is certain at every size. Where there is none (under `no_grad`, say)
    the numbers are looked at, for what no healthy model gives.
    """

    wrong: tuple[Wrong, ...]

    def traced(self, origin: Origin) -> str | None:
        """What to say by the graph; None where it does not tell."""
        if not origin.known:
            return None
        rows = [row for row in self.wrong if row.activation == origin.activation]
        return rows[0].about(origin) if rows else ""

    @abc.abstractmethod
    def enough(self, values: Tensor, seen: Seen) -> bool:
        """Whether the numbers are enough to judge by."""


class NotProbabilities(_Activated):
    wrong = (
        Wrong("sigmoid", _twice("sigmoid")),
        Wrong("log-sigmoid", _instead("log-sigmoid", "sigmoid")),
        Wrong("softmax", _instead("softmax", "sigmoid")),
        Wrong("log-softmax", _instead("log-softmax", "sigmoid")),
    )
    least = 1
    few = 16  # so few may lie anywhere
    # Near an end is closer than this, and as large a part of the numbers is near either. Untrained
    # models never have such scores; those that were trained with a sigmoid too many nearly always.
    near, share = 0.02, 0.02

    def __str__(self) -> str:
        return (
            "lies in (0, 1) throughout and reaches near both ends, as after a sigmoid, and "
            f"{_twice('sigmoid')}"
        )

    def said(self, values: Tensor, seen: Seen) -> str:
        if _normalised(values, seen.classes):
            return f"sums to 1 over the classes, as after a softmax, and {self.wrong[2].advice}"
        return super().said(values, seen)

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        least = max(2.0, self.share * values.numel())
        low, high = (values < self.near).sum(), (values > 1 - self.near).sum()
        inside = (values > 0).all() & (values <= 1).all()
        return inside & (low >= least) & (high >= least) & self._many(values)

    def _many(self, values: Tensor) -> bool:
        return values.numel() >= self.few

    def enough(self, values: Tensor, seen: Seen) -> bool:
        return self._many(values)


class NotSoftmax(_Activated):
    wrong = (
        Wrong("softmax", _twice("softmax")),
        Wrong("sigmoid", _instead("sigmoid", "softmax")),
        # Over the classes it changes nothing.
        Wrong("log-softmax", _instead("log-softmax", "softmax over the classes"), False),
    )
    least = 1

    def __str__(self) -> str:
        return f"sums to 1 over the classes, as after a softmax, and {_twice('softmax')}"

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        return torch.tensor(_normalised(values, seen.classes))

    def enough(self, values: Tensor, seen: Seen) -> bool:
        return _rows(values, seen.classes) > 1


class NormalisedOverClasses(_Activated):
    wrong = (
        Wrong(
            "log-softmax",
            "this loss takes log-probabilities of the classes: take the log-softmax over those",
            over_classes=False,
        ),
    )
    least = 1
    near = 0.05  # log-probabilities of half precision are rounded by so much

    def __str__(self) -> str:
        return (
            "holds log-probabilities that are normalised over another axis than that of the "
            "classes: take the log-softmax over the classes"
        )

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        sums = [self._sums_to_one(values, axis) for axis in range(values.dim())]
        right = seen.classes is None or sums[seen.classes]
        return torch.tensor(not right and any(sums))

    def _sums_to_one(self, values: Tensor, axis: int) -> bool:
        """Whether the probabilities along `axis` do, where there are several."""
        half = values.dtype in (torch.float16, torch.bfloat16)
        total = (values.float() if half else values).logsumexp(axis).abs()
        return values.shape[axis] > 1 and bool((total <= self.near).all())

    def enough(self, values: Tensor, seen: Seen) -> bool:
        return _rows(values, seen.classes) > 1


def _rows(values: Tensor, classes: int | None) -> int:
    """How many times there is a number for every class."""
    size = 0 if classes is None else values.shape[classes]
    return values.numel() // size if size else 0


def _normalised(values: Tensor, classes: int | None) -> bool:
    """Whether two rows or more sum to 1 over the classes, and are not all the same number."""
    if classes is None or _rows(values, classes) < 2:
        return False
    half = values.dtype in (torch.float16, torch.bfloat16)
    close = (_sum(values, classes) - 1).abs() <= (_SUM_ROUNDING if half else 1e-3)
    return bool(close.all() & (values >= 0).all() & (values.min() < values.max()))


class Alignable(Suspicion):
    """CTC aligns a sequence of labels to the time steps: one for each label, and one more for the
    blank between two labels that are equal. Where there are fewer, the loss is infinite."""

    least = 1

    def __str__(self) -> str:
        return "needs more time steps than its input has, and the loss is inf"

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        needed, steps = self._needed(values, seen)
        return (needed > steps).any()

    def said(self, values: Tensor, seen: Seen) -> str:
        needed, steps = self._needed(values, seen)
        short = (needed > steps).nonzero().flatten().tolist()
        if not short:
            return ""
        sample = short[0]
        return (
            f"needs {needed[sample]} time steps for sample {sample} (one for each label, and one "
            f"for a blank between two that are equal), and its input has {steps[sample]}: the loss "
            "is inf. Give longer inputs, or leave such samples out by `zero_infinity=True`"
        )

    def _needed(self, labels: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """The time steps that each sample needs, and those that it has."""
        steps = as_lengths(seen.arguments.get("input_lengths"))
        lengths = as_lengths(seen.arguments.get("target_lengths"))
        if steps is None or lengths is None or seen.options.get("zero_infinity"):
            return torch.zeros(1), torch.zeros(1)
        lengths = lengths.cpu()
        return lengths + self._repeats(labels.cpu(), lengths), steps.cpu()

    def _repeats(self, labels: Tensor, lengths: Tensor) -> Tensor:
        """How often a label follows itself, for each sample."""
        if labels.dim() > 1:
            equal = (labels[:, 1:] == labels[:, :-1]) & _within(labels, lengths)[:, 1:]
            return equal.sum(1)
        samples = torch.repeat_interleave(lengths)
        equal = (labels[1:] == labels[:-1]) & (samples[1:] == samples[:-1])
        return torch.zeros_like(lengths).index_add_(0, samples[1:], equal.to(lengths.dtype))


class NotMultiHot(Suspicion):
    def __str__(self) -> str:
        return (
            "holds nothing but 0 and 1, as multi-hot labels do. This loss takes the indices of "
            "the classes, and then -1"
        )

    def holds(self, values: Tensor, seen: Seen) -> Tensor:
        # Of three classes and more, 0 and 1 cannot fill a row unless one of them stands twice.
        return ((values == 0) | (values == 1)).all() & torch.tensor(seen.axes.get("classes", 0) > 2)


class Broken(NamedTuple):
    """A rule that does not hold, and where: a mask, or one verdict for all."""

    rule: Rule
    mask: Tensor


class Doubts(NamedTuple):
    """What to say of numbers that are legal, and whether they were enough to judge by."""

    texts: tuple[tuple[Suspicion, str], ...]
    conclusive: bool


def first_broken(values: Tensor, rules: tuple[Any, ...], seen: Seen) -> Broken | None:
    """The first of `rules` that `values` break."""
    for rule in rules:
        if isinstance(rule, Rule) and _legible(values):
            try:
                mask = rule.broken(values, seen)
                if mask.any():
                    return Broken(rule, mask)
            except RuntimeError:
                continue  # float8, complex, ...: torch cannot compare or reduce what they hold
    return None


def suspicions(values: Tensor, rules: tuple[Any, ...], seen: Seen) -> Doubts:
    """What the suspicions among `rules` say of `values`, which are as the user gave them."""
    texts, conclusive = [], True
    for doubt in rules:
        if isinstance(doubt, Suspicion):
            text = None
            if isinstance(doubt, _Activated):
                text = doubt.traced(origin(values, seen.classes))
            if text is None:
                text = _looked_at(doubt, values, seen)
                if isinstance(doubt, _Activated) and not text:
                    conclusive = conclusive and doubt.enough(values, seen)
            if text:
                texts.append((doubt, text))
    return Doubts(tuple(texts), conclusive)


def _looked_at(doubt: Suspicion, values: Tensor, seen: Seen) -> str:
    """What a suspicion says by the numbers."""
    if not _legible(values) or values.numel() < doubt.least:
        return ""
    try:
        return doubt.said(values, seen)
    except RuntimeError:
        return ""  # float8, complex, ...: torch cannot compare or reduce what they hold


def _legible(values: Tensor) -> bool:
    """Whether there are numbers that can be compared one by one."""
    return values.layout is torch.strided and not (values.is_quantized or values.is_nested)
