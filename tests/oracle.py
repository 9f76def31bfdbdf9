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


def _quadratic_near_zero(x: float, y: float) -> float:
    distance = abs(x - y)
    return distance**2 / 2 if distance < 1 else distance - 0.5


def _logits(x: float, y: float) -> float:
    return max(x, 0) - x * y + math.log1p(math.exp(-abs(x)))


# The loss of one prediction and its target.
ELEMENTS: dict[str, Callable[[float, float], float]] = {
    "MSELoss": lambda x, y: (x - y) ** 2,
    "L1Loss": lambda x, y: abs(x - y),
    "SmoothL1Loss": _quadratic_near_zero,
    "HuberLoss": _quadratic_near_zero,
    "BCELoss": lambda x, y: -y * max(_log(x), -100) - (1 - y) * max(_log(1 - x), -100),
    "BCEWithLogitsLoss": _logits,
    "MultiLabelBCE": _logits,
    "MultiLabelSoftMarginLoss": _logits,
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


def elements(
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


def indices(
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
