"""The demo: one classifier, trained four times on the same shapes, and what became of it.

A head gives logits `[B, 1]` and a loader labels `[B]`, on scikit-learn's breast cancer data. At
each batch size every loss starts from the same weights and sees the same batches.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safeloss.losses import SafeBCEWithLogitsLoss

if TYPE_CHECKING:  # the packages of the extra are imported where they are needed
    from rich.console import Console

BATCH_SIZES = (1, 2, 4, 8, 32, 128)
QUICK_BATCH_SIZES = (1, 8, 32)
TRAIN_SIZE = 384  # a multiple of every batch size: no last batch is smaller than the others
MISSING = 'the demo needs rich, matplotlib and scikit-learn: pip install "safeloss[demo]"'


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """What should have been written: the shapes are made equal first."""
    return F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels)


def handwritten(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy as the formula has it: right on equal shapes, and only there."""
    return -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits)).mean()


CORRECT = "BCE, squeezed by hand"
SWAPPED_IN = "SafeBCEWithLogitsLoss"
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    CORRECT: correct,
    "multilabel_soft_margin_loss": F.multilabel_soft_margin_loss,
    "hand-written BCE": handwritten,
    SWAPPED_IN: SafeBCEWithLogitsLoss(),
}


class Data(NamedTuple):
    """Standardised features and 0/1 labels; the held-out ones are never trained on."""

    features: Tensor
    labels: Tensor
    held_out_features: Tensor
    held_out_labels: Tensor


class Run(NamedTuple):
    """What one training came to."""

    losses: tuple[float, ...]  # the mean over each epoch
    accuracy: float  # held-out
    gradient_norm: float  # the mean over the last epoch
    warnings: int = 0


Runs: TypeAlias = dict[int, dict[str, Run]]  # by batch size, then by loss


class Verdict(NamedTuple):
    """Whether the swapped-in loss trained as well as the correct one, and the line that says so."""

    passed: bool
    text: str


def load() -> Data:
    """scikit-learn's breast cancer data, split once and for all."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    arrays = train_test_split(
        *load_breast_cancer(return_X_y=True), train_size=TRAIN_SIZE, random_state=0
    )
    train, held_out, labels, held_out_labels = (torch.as_tensor(a).float() for a in arrays)
    mean, std = train.mean(0), train.std(0)
    return Data((train - mean) / std, labels, (held_out - mean) / std, held_out_labels)


def train(
    data: Data,
    loss: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    epochs: int,
    advance: Callable[[int], object] = lambda _: None,
) -> Run:
    """Train a fresh classifier, seeded, on logits `[B, 1]` and labels `[B]`."""
    generator = torch.Generator().manual_seed(0)
    model = nn.utils.skip_init(nn.Linear, data.features.shape[1], 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.1, 0.1, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    means, norms = [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in range(epochs):
            order = torch.randperm(len(data.labels), generator=generator)
            features, labels = data.features[order], data.labels[order]
            values = []
            batches = zip(features.split(batch_size), labels.split(batch_size), strict=True)
            for batch, batch_labels in batches:
                optimizer.zero_grad()
                value = loss(model(batch), batch_labels)
                value.backward()
                values.append(value.detach())
                if epoch == epochs - 1:
                    norms.append(nn.utils.get_total_norm(_gradients(model)))
                optimizer.step()
            means.append(float(torch.stack(values).mean()))
            advance(len(values))
    with torch.no_grad():
        predictions = model(data.held_out_features).squeeze(-1) > 0
    accuracy = (predictions == data.held_out_labels.bool()).float().mean()
    return Run(tuple(means), float(accuracy), float(torch.stack(norms).mean()), len(caught))


def _gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def train_all(data: Data, batch_sizes: Iterable[int], epochs: int, console: "Console") -> Runs:
    """Every loss at every batch size, under a progress bar that counts optimiser steps."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    runs: Runs = {batch_size: {} for batch_size in batch_sizes}
    steps = sum(TRAIN_SIZE // batch_size for batch_size in runs) * epochs * len(LOSSES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small to share out
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("", total=steps)
            for batch_size, row in runs.items():
                for name, loss in LOSSES.items():
                    progress.update(bar, description=f"batches of {batch_size}, {name}")
                    row[name] = train(
                        data, loss, batch_size, epochs, lambda n: progress.advance(bar, n)
                    )
    finally:
        torch.set_num_threads(threads)
    return runs


def is_healthy(run: Run, reference: Run) -> bool:
    """Whether a run ended where the correct one did, to what the table can show."""
    return (
        abs(run.losses[-1] - reference.losses[-1]) <= 1e-3 * abs(reference.losses[-1])
        and abs(run.accuracy - reference.accuracy) < 1e-3
    )
