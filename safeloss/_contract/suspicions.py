"""What is legal and very likely a mistake: it warns, and needs evidence that healthy code lacks.

A layout carries its suspicions as it carries its rules. Some are told by the operations that made
a tensor, at every size, and otherwise by its numbers, where there are enough of them.
"""

import abc
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.activations import Origin, origin
from safeloss._contract.values import SUM_ROUNDING, Note, ValueContext, is_legible, summed


class Suspicion(Note, abc.ABC):
    """What is legal and very likely a mistake; it warns."""

    code: str  # of `codes`
    least = 16  # elements; fewer may look like anything

    @abc.abstractmethod
    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        """Whether to warn of `values`."""

    def said(self, values: Tensor, context: ValueContext) -> str:
        """The warning about `values`; empty where they are fine."""
        return str(self) if self.holds(values, context) else ""


class Finite(Suspicion):
    """Predictions: -inf is how classes are masked, and NaN and inf are a mistake further up."""

    code = codes.NOT_FINITE
    least = 1

    def __str__(self) -> str:
        return "contains NaN or inf"

    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        return (torch.isnan(values) | self._infinite(values)).any()

    def said(self, values: Tensor, context: ValueContext) -> str:
        if not (values.is_floating_point() or values.is_complex()) or not self.holds(
            values, context
        ):
            return ""
        missing = torch.isnan(values)
        name, mask = ("NaN", missing) if missing.any() else ("inf", self._infinite(values))
        return (
            f"contains {name}, first at {mask.nonzero()[0].tolist()}, so the loss or its gradient "
            "may be NaN. Common causes: a division by 0, a logarithm of 0, an overflow in half "
            "precision, or a learning rate that is too high"
        )

    def _infinite(self, values: Tensor) -> Tensor:
        return torch.isinf(values) if values.is_complex() else torch.isposinf(values)


class FiniteWeights(Finite):
    """Weights that are given with the call, but for what the mask leaves out."""

    def said(self, values: Tensor, context: ValueContext) -> str:
        mask = context.arguments.get("mask")
        if mask is not None:  # in the axes of the unreduced loss, as the weights are there
            values = torch.where(mask, context.arguments["sample_weight"], 0)
        return super().said(values, context)


IN_THE_MODEL = "in the model's forward"


class Wrong(NamedTuple):
    """An activation that makes a loss wrong."""

    activation: str
    advice: str  # "{place}" is where the activation is applied
    over_classes: bool | None = None  # only where it does, or does not; None: wherever it is taken

    def about(self, origin: Origin) -> str | None:
        """What to say of a tensor that is its output; None where that cannot be told."""
        if self.over_classes is not None and origin.over_classes is None:
            return None
        if self.over_classes not in (None, origin.over_classes):
            return ""
        over = {
            None: "",
            True: " over the classes",
            False: f" over axis {origin.axis}, which does not hold the classes",
        }[origin.over_classes]
        advice = self.advice.format(place=origin.place or IN_THE_MODEL)
        return f"is the output of a {self.activation}{over}, but {advice}"


def _twice(itself: str) -> str:
    return (
        f"this loss applies the {itself} itself. Remove the {itself} {{place}} and pass the raw "
        "scores (logits)"
    )


def _instead(activation: str, itself: str) -> str:
    return (
        f"this loss applies a {itself} itself. Remove the {activation} {{place}} and pass the raw "
        "scores (logits)"
    )


class _Activated(Suspicion):
    """Scores after an activation that makes the loss wrong.

    The graph that made them is certain at every size. Where there is none (under `no_grad`, say)
    the numbers are looked at, for what no healthy model gives.
    """

    wrong: tuple[Wrong, ...]

    def classes(self, values: Tensor, context: ValueContext) -> int | None:
        """The axis of the classes in `values`."""
        return context.classes

    def traced(self, origin: Origin) -> str | None:
        """The warning by the graph; None where the graph does not tell."""
        if not origin.known:
            return None
        rows = [row for row in self.wrong if row.activation == origin.activation]
        return rows[0].about(origin) if rows else ""

    @abc.abstractmethod
    def enough(self, values: Tensor, context: ValueContext) -> bool:
        """Whether the numbers are enough to judge by."""


class NotProbabilities(_Activated):
    code = codes.DOUBLE_ACTIVATION
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
            "has only numbers between 0 and 1, some close to 0 and some close to 1, as after a "
            f"sigmoid, but {_twice('sigmoid').format(place=IN_THE_MODEL)}"
        )

    def said(self, values: Tensor, context: ValueContext) -> str:
        if _normalised(values, context.classes):
            advice = self.wrong[2].advice.format(place=IN_THE_MODEL)
            return f"sums to 1 over the classes, as after a softmax, but {advice}"
        return super().said(values, context)

    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        least = max(2.0, self.share * values.numel())
        low, high = (values < self.near).sum(), (values > 1 - self.near).sum()
        inside = (values > 0).all() & (values <= 1).all()
        return inside & (low >= least) & (high >= least) & self._many(values)

    def _many(self, values: Tensor) -> bool:
        return values.numel() >= self.few

    def enough(self, values: Tensor, context: ValueContext) -> bool:
        return self._many(values)


class NotSoftmax(_Activated):
    code = codes.DOUBLE_ACTIVATION
    wrong = (
        Wrong("softmax", _twice("softmax")),
        Wrong("sigmoid", _instead("sigmoid", "softmax")),
        # Over the classes it changes nothing.
        Wrong(
            "log-softmax", _instead("log-softmax", "softmax over the classes"), over_classes=False
        ),
    )
    least = 1

    def __str__(self) -> str:
        advice = _twice("softmax").format(place=IN_THE_MODEL)
        return f"sums to 1 over the classes, as after a softmax, but {advice}"

    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        return torch.tensor(_normalised(values, context.classes))

    def enough(self, values: Tensor, context: ValueContext) -> bool:
        return _rows(values, context.classes) > 1


class _NormalisedElsewhere(_Activated):
    """Log-probabilities that are normalised over another axis than that of the classes."""

    code = codes.NORMALISED_AXIS
    least = 1
    near = 0.05  # log-probabilities of half precision are rounded by so much

    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        sums = [self._sums_to_one(values, axis) for axis in range(values.dim())]
        right = context.classes is None or sums[context.classes]
        return torch.tensor(not right and any(sums))

    def _sums_to_one(self, values: Tensor, axis: int) -> bool:
        """Whether the probabilities along `axis` do, where there are several."""
        half = values.dtype in (torch.float16, torch.bfloat16)
        total = (values.float() if half else values).logsumexp(axis).abs()
        return values.shape[axis] > 1 and bool((total <= self.near).all())

    def enough(self, values: Tensor, context: ValueContext) -> bool:
        return _rows(values, context.classes) > 1


class NormalisedOverClasses(_NormalisedElsewhere):
    wrong = (
        Wrong(
            "log-softmax",
            "this loss needs log-probabilities over the classes. Apply the log-softmax over the "
            "class axis instead",
            over_classes=False,
        ),
    )

    def __str__(self) -> str:
        return (
            "contains log-probabilities that are normalised over another axis than the classes. "
            "Apply the log-softmax over the class axis instead"
        )


class NormalisedAsTarget(_NormalisedElsewhere):
    """Of a loss that has no axis for the classes: the one over which its target sums to 1, if
    that is one alone."""

    wrong = (
        Wrong(
            "log-softmax",
            "`target` sums to 1 over another axis. Apply the log-softmax over that axis instead",
            over_classes=False,
        ),
    )

    def __str__(self) -> str:
        return (
            "contains log-probabilities that are normalised over another axis than `target`. Apply "
            "the log-softmax over the axis along which `target` sums to 1"
        )

    def classes(self, values: Tensor, context: ValueContext) -> int | None:
        target = context.arguments.get("target")
        if target is None or target.shape != values.shape or not values.numel():
            return None
        if not is_legible(target):
            return None
        try:
            chances = target.exp() if context.options.get("log_target") else target
            axes = [axis for axis in range(target.dim()) if _are_chances(chances, axis)]
        except RuntimeError:
            return None  # float8, complex, ...
        return axes[0] if len(axes) == 1 else None

    def enough(self, values: Tensor, context: ValueContext) -> bool:
        return context.classes is None or super().enough(values, context)


def _rows(values: Tensor, classes: int | None) -> int:
    """How many times there is a number for every class."""
    size = 0 if classes is None else values.shape[classes]
    return values.numel() // size if size else 0


def _normalised(values: Tensor, classes: int | None) -> bool:
    """Whether two rows or more sum to 1 over the classes, and are not all the same number."""
    if classes is None or _rows(values, classes) < 2:
        return False
    return _are_chances(values, classes) and bool(values.min() < values.max())


def _are_chances(values: Tensor, axis: int) -> bool:
    """Whether `values` are probabilities of several classes along `axis`."""
    half = values.dtype in (torch.float16, torch.bfloat16)
    close = (summed(values, axis) - 1).abs() <= (SUM_ROUNDING if half else 1e-3)
    return values.shape[axis] > 1 and bool(close.all() & (values >= 0).all())


class NotMultiHot(Suspicion):
    code = codes.CLASS_SETS

    def __str__(self) -> str:
        return (
            "contains only 0 and 1, like multi-hot labels. This loss expects the indices of the "
            "classes, with -1 after the last one"
        )

    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        # Of three classes and more, 0 and 1 cannot fill a row unless one of them stands twice.
        return ((values == 0) | (values == 1)).all() & torch.tensor(
            context.axes.get("classes", 0) > 2
        )


class Doubts(NamedTuple):
    """What to say of numbers that are legal, and whether they were enough to judge by."""

    texts: tuple[tuple[Suspicion, str], ...]
    conclusive: bool


def suspicions(values: Tensor, rules: tuple[Any, ...], context: ValueContext) -> Doubts:
    """What the suspicions among `rules` say of `values`, which are as the user gave them."""
    texts, conclusive = [], True
    for doubt in rules:
        if isinstance(doubt, Suspicion):
            text, known = None, context
            if isinstance(doubt, _Activated):
                known = context._replace(classes=doubt.classes(values, context))
                text = doubt.traced(origin(values, known.classes))
            if text is None:
                text = _looked_at(doubt, values, known)
                if isinstance(doubt, _Activated) and not text:
                    conclusive = conclusive and doubt.enough(values, known)
            if text:
                texts.append((doubt, text))
    return Doubts(tuple(texts), conclusive)


def _looked_at(doubt: Suspicion, values: Tensor, context: ValueContext) -> str:
    """What a suspicion says by the numbers."""
    if not is_legible(values) or values.numel() < doubt.least:
        return ""
    try:
        return doubt.said(values, context)
    except RuntimeError:
        return ""  # float8, complex, ...: torch cannot compare or reduce what they hold
