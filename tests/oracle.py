"""What a loss is, with every axis by name, sample by sample, in plain Python.

It shares nothing with the library: which axis is which is said by the test that makes the numbers.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor


class Named(NamedTuple):
    """Numbers with a name for every axis. A place may name more axes: along those they repeat."""

    values: Tensor
    axes: tuple[str, ...]

    def at(self, place: dict[str, int]) -> float:
        return self.values[tuple(place[axis] for axis in self.axes)].double().item()

    def sizes(self) -> dict[str, int]:
        return dict(zip(self.axes, self.values.shape, strict=True))


def named(values: Tensor, axes: str) -> Named:
    return Named(values, tuple(axes.split()))


def _places(sizes: dict[str, int]) -> Iterator[dict[str, int]]:
    for place in itertools.product(*map(range, sizes.values())):
        yield dict(zip(sizes, place))


def _log(number: float) -> float:
    return math.log(number) if number > 0 else -math.inf


def _smooth_l1(x: float, y: float) -> float:
    distance = abs(x - y)
    return distance**2 / 2 if distance < 1 else distance - 0.5


def _bce_with_logits(x: float, y: float) -> float:
    return max(x, 0) - x * y + math.log1p(math.exp(-abs(x)))


# The loss of one prediction and its target.
ELEMENTS: dict[str, Callable[[float, float], float]] = {
    "MSELoss": lambda x, y: (x - y) ** 2,
    "L1Loss": lambda x, y: abs(x - y),
    "SmoothL1Loss": _smooth_l1,
    "HuberLoss": _smooth_l1,
    "BCELoss": lambda x, y: -y * max(_log(x), -100) - (1 - y) * max(_log(1 - x), -100),
    "BCEWithLogitsLoss": _bce_with_logits,
    "MultiLabelBCE": _bce_with_logits,
    "MultiLabelSoftMarginLoss": _bce_with_logits,
    "SoftMarginLoss": lambda x, y: math.log1p(math.exp(-y * x)),
    "HingeEmbeddingLoss": lambda x, y: x if y == 1 else max(0, 1 - x),
    "PoissonNLLLoss": lambda x, y: math.exp(x) - y * x,
    "KLDivLoss": lambda x, y: y * (_log(y) - x) if y > 0 else 0.0,
}


def _reduced(losses: list[float], reduction: str, weights: list[float] | None = None) -> float:
    if reduction == "sum":
        return math.fsum(losses)
    total = len(losses) if weights is None else math.fsum(weights)
    return math.fsum(losses) / total if total else math.nan


def elementwise_loss(
    loss: str, input: Named, target: Named, reduction: str = "mean", weight: Named | None = None
) -> float:
    """An element-wise loss: each number of the input, and the target of its place."""
    sizes = {**target.sizes(), **input.sizes()}
    one = ELEMENTS[loss]
    return _reduced(
        [
            one(input.at(place), target.at(place)) * (weight.at(place) if weight else 1)
            for place in _places(sizes)
        ],
        reduction,
    )


def _log_softmax(scores: list[float]) -> list[float]:
    most = max(scores)
    total = most + math.log(math.fsum(math.exp(score - most) for score in scores))
    return [score - total for score in scores]


def class_index_loss(
    loss: str,
    input: Named,
    target: Named,
    reduction: str = "mean",
    weight: Named | None = None,
    ignored: int = -100,
    smoothing: float = 0.0,
) -> float:
    """A loss of class scores (their axis is `classes`) and class indices."""
    sizes = input.sizes()
    classes = sizes.pop("classes")
    losses, weights = [], []
    for place in _places(sizes):
        scores = [input.at({**place, "classes": c}) for c in range(classes)]
        right = int(target.at(place))
        if right == ignored:
            continue
        shares = [weight.at({"classes": c}) if weight else 1.0 for c in range(classes)]
        if loss == "MultiMarginLoss":
            margins = [max(0, 1 - scores[right] + scores[c]) for c in range(classes) if c != right]
            losses.append(shares[right] * math.fsum(margins) / classes)
            weights.append(1.0)
            continue
        logs = _log_softmax(scores) if loss == "CrossEntropyLoss" else scores
        smooth = math.fsum(-logs[c] * shares[c] for c in range(classes)) / classes
        losses.append((1 - smoothing) * -logs[right] * shares[right] + smoothing * smooth)
        weights.append(shares[right])
    return _reduced(losses, reduction, weights)


# Losses of several inputs, each an argument by its name -------------------------------------------


def _sizes(*inputs: Named) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for each in inputs:
        for axis, size in each.sizes().items():
            assert sizes.setdefault(axis, size) == size, "one name, two sizes"
    return sizes


def _vectors(inputs: tuple[Named, ...], place: dict[str, int], size: int) -> list[list[float]]:
    """The numbers of each input along the axis `feature`."""
    return [[each.at({**place, "feature": i}) for i in range(size)] for each in inputs]


def margin_ranking_loss(input1: Named, input2: Named, target: Named) -> float:
    """The mean of `MarginRankingLoss`, of margin 0."""
    return _reduced(
        [
            max(0, -target.at(place) * (input1.at(place) - input2.at(place)))
            for place in _places(_sizes(input1, input2, target))
        ],
        "mean",
    )


def cosine_embedding_loss(input1: Named, input2: Named, target: Named) -> float:
    """The mean of `CosineEmbeddingLoss`, of margin 0."""
    sizes, losses = _sizes(input1, input2, target), []
    size = sizes.pop("feature")
    for place in _places(sizes):
        one, other = _vectors((input1, input2), place, size)
        cosine = math.fsum(x * y for x, y in zip(one, other)) / (
            math.hypot(*one) * math.hypot(*other)
        )
        losses.append(1 - cosine if target.at(place) == 1 else max(0, cosine))
    return _reduced(losses, "mean")


def triplet_margin_loss(anchor: Named, positive: Named, negative: Named) -> float:
    """The mean of `TripletMarginLoss`, of margin 1."""
    sizes, losses = _sizes(anchor, positive, negative), []
    size = sizes.pop("feature")
    for place in _places(sizes):
        a, p, n = _vectors((anchor, positive, negative), place, size)
        losses.append(max(0, math.dist(a, p) - math.dist(a, n) + 1))
    return _reduced(losses, "mean")


def gaussian_nll_loss(input: Named, target: Named, var: Named) -> float:
    """The mean of `GaussianNLLLoss`."""
    return _reduced(
        [
            (math.log(var.at(p)) + (input.at(p) - target.at(p)) ** 2 / var.at(p)) / 2
            for p in _places(_sizes(input, target, var))
        ],
        "mean",
    )


def ctc_loss(
    log_probs: Named, targets: Named, input_lengths: Named, target_lengths: Named
) -> float:
    """The mean of `CTCLoss`: over all paths that collapse to the labels, with blanks of class 0.

    Each way is spelled out, and what stays of it without repeats and blanks is compared.
    """
    sizes, losses = log_probs.sizes(), []
    for sample in range(sizes["sample"]):
        steps = int(input_lengths.at({"sample": sample}))
        count = int(target_lengths.at({"sample": sample}))
        labels = [int(targets.at({"sample": sample, "label": i})) for i in range(count)]
        total = 0.0
        for path in itertools.product(range(sizes["classes"]), repeat=steps):
            if [label for label, _ in itertools.groupby(path) if label] == labels:
                total += math.exp(
                    math.fsum(
                        log_probs.at({"time": t, "sample": sample, "classes": c})
                        for t, c in enumerate(path)
                    )
                )
        losses.append(-_log(total) / max(count, 1))
    return _reduced(losses, "mean")
