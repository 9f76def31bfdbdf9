"""Training programs, broken and healthy, on which `safeloss.check` is measured.

Each is a small builder with one fault, or none. `trained` runs it for some steps, and tells by the
outcome which of the two it is: the gallery does not take its own word for it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Outcome:
    """What a training came to."""

    losses: list[float]
    error: str = ""
    score: float = 0.0  # of the trained model, at most 1

    @property
    def finite(self) -> bool:
        return not self.error and all(map(math.isfinite, self.losses))


@dataclass
class Training:
    """A model, the batches of an epoch, and what trains it."""

    model: nn.Module
    batches: list[Any]
    loss: Callable[..., Any] | None = None
    step: Callable[[Any, Any], Any] | None = None
    optimizer: torch.optim.Optimizer | None = None
    score: Callable[[], float] | None = None  # by default: by how much the loss has fallen
    goal: float = 0.8
    steps: int = 120
    options: dict[str, Any] = field(default_factory=dict)  # of `check`
    shows: Callable[[Outcome], bool] | None = None  # how else a broken one shows

    def loss_of(self, batch: Any) -> Tensor:
        if self.step is not None:
            return self.step(self.model, batch)
        if self.loss is None:
            return self.model(**batch)["loss"]
        *inputs, target = batch
        return self.loss(self.model(*inputs), target)


def trained(training: Training) -> Outcome:
    """Train it as its user would, in a loop over its batches."""
    optimizer = training.optimizer
    outcome = Outcome([])
    try:
        if optimizer is None:
            optimizer = torch.optim.Adam(training.model.parameters(), lr=0.02)
        for number in range(training.steps):
            loss = training.loss_of(training.batches[number % len(training.batches)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            outcome.losses.append(float(loss.detach()))
        training.model.eval()
        with torch.no_grad():
            outcome.score = training.score() if training.score else fallen(outcome.losses)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        outcome.error = f"{type(error).__name__}: {error}"
    return outcome


def learns(training: Training) -> bool:
    """Whether it comes to its goal."""
    outcome = trained(training)
    if training.shows is not None and training.shows(outcome):
        return False
    return outcome.finite and outcome.score >= training.goal


def fallen(losses: list[float]) -> float:
    """Which share of the first loss is gone."""
    last = losses[-5:]
    return 1 - sum(last) / len(last) / losses[0]


Builder = Callable[[], Training]


def gallery() -> tuple[dict[str, Builder], Callable[[Builder], Builder]]:
    """An empty collection, and what adds a builder to it under its name."""
    programs: dict[str, Builder] = {}

    def add(build: Builder) -> Builder:
        programs[build.__name__] = build
        return build

    return programs, add


# Data that a small model can learn ---------------------------------------------------------------


def batched(*tensors: Tensor, size: int = 16) -> list[tuple[Tensor, ...]]:
    return list(zip(*[tensor.split(size) for tensor in tensors]))


def classes(n: int = 96, features: int = 6, number: int = 3) -> tuple[Tensor, Tensor]:
    """Blobs, well apart."""
    labels = torch.arange(n) % number
    centers = 3 * torch.randn(number, features)
    return centers[labels] + 0.3 * torch.randn(n, features), labels


def yes_or_no(n: int = 96, features: int = 6) -> tuple[Tensor, Tensor]:
    x, labels = classes(n, features, 2)
    return x, labels.float()


def numbers(n: int = 96, features: int = 4) -> tuple[Tensor, Tensor]:
    """A regression on a line."""
    x = torch.randn(n, features)
    return x, x @ torch.tensor([1.0, -1.0, 0.5, 0.5])[:features] + 0.05 * torch.randn(n)


def mlp(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs), *last)


# Scores of a trained model -----------------------------------------------------------------------


def explained(model: Any, x: Tensor, y: Tensor) -> Callable[[], float]:
    """The share of the variance that a regression explains."""

    def score() -> float:
        left = (model(x).reshape(-1) - y.reshape(-1)).square().mean()
        return float(1 - left / y.var(unbiased=False))

    return score


def chance_of_right(
    model: Any, x: Tensor, labels: Tensor, read: Callable[[Tensor], Tensor] | None = None
) -> Callable[[], float]:
    """The mean probability of the right class, as the loss reads the outputs: a softmax."""

    def score() -> float:
        given = model(x)
        chances = given.softmax(1) if read is None else read(given)
        return float(chances.gather(1, labels.unsqueeze(1)).mean())

    return score


def chance_of_yes(
    model: Any, x: Tensor, labels: Tensor, read: Callable[[Tensor], Tensor] = torch.sigmoid
) -> Callable[[], float]:
    """The mean probability of the right answer to yes/no questions."""

    def score() -> float:
        yes = read(model(x)).reshape(labels.shape)
        return float(torch.where(labels > 0.5, yes, 1 - yes).mean())

    return score
