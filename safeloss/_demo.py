"""The demo: one classifier, trained with four losses on the same shapes, and what became of it.

A head gives logits `[B, 1]` and a loader labels `[B]`, on scikit-learn's breast cancer data. At
each batch size every loss starts from the same weights and sees the same batches.
"""

import sys
import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safeloss.errors import SafeLossError
from safeloss.losses import SafeBCEWithLogitsLoss

if TYPE_CHECKING:  # the packages of the extra are imported where they are needed
    from rich.console import Console
    from rich.table import Table

BATCH_SIZES, EPOCHS = (1, 2, 4, 8, 32, 128), 12
QUICK_BATCH_SIZES, QUICK_EPOCHS = (1, 8, 32), 5
TRAIN_SIZE = 256  # a multiple of every batch size: no last batch is smaller than the others
MISSING = 'The demo needs rich, matplotlib and scikit-learn: pip install "safeloss[demo]"'

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def squeezed(logits: Tensor, labels: Tensor) -> Tensor:
    """What should have been written: the shapes are made equal first."""
    return F.binary_cross_entropy_with_logits(logits.squeeze(-1), labels)


def handwritten(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy as its formula: right on equal shapes, and only there."""
    return -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits)).mean()


CORRECT, SWAPPED_IN = "squeeze(-1), then BCE", "SafeBCEWithLogitsLoss"
BROKEN: dict[str, Loss] = {
    "multilabel_soft_margin_loss": F.multilabel_soft_margin_loss,
    "hand-written BCE": handwritten,
}
LOSSES: dict[str, Loss] = {CORRECT: squeezed, **BROKEN, SWAPPED_IN: SafeBCEWithLogitsLoss()}
ROLES = {CORRECT: "correct", **dict.fromkeys(BROKEN, "broken"), SWAPPED_IN: "safeloss"}
LABELS = {name: f"{role}: {name}" for name, role in ROLES.items()}
COLORS = dict(zip(LOSSES, ("#8fcfb4", "#b3362c", "#e39a5b", "#1d6b4f"), strict=True))
WIDTHS = dict(zip(LOSSES, (6, 4, 2, 2), strict=True))  # equal curves show beneath one another
CAPTION = (
    "One linear classifier, trained with four losses on the same data, from the same start. The "
    "head gives logits [B, 1], the loader labels [B].\n"
    "The two broken losses stretch both to [B, B]: every sample is taught the labels of the whole "
    "batch, and no error says so.\n"
    "At B = 1 nothing can be seen; the larger the batch, the less they learn. safeloss compares "
    "each logit with its own label:\n"
    "its curve (dashed) lies on that of the correct loss."
)


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


class Verdict(NamedTuple):
    """Whether the swapped-in loss trained as well as the correct one, and the line to say so."""

    passed: bool
    text: str


Runs: TypeAlias = dict[int, dict[str, Run]]  # by batch size, then by loss


def load() -> Data:
    """scikit-learn's breast cancer data, always split the same way."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    arrays = train_test_split(
        *load_breast_cancer(return_X_y=True), train_size=TRAIN_SIZE, random_state=0
    )
    features, held_out, labels, held_out_labels = (torch.as_tensor(a).float() for a in arrays)
    mean, std = features.mean(0), features.std(0)
    return Data((features - mean) / std, labels, (held_out - mean) / std, held_out_labels)


def train(
    data: Data, loss: Loss, batch_size: int, epochs: int, advance: Callable[[int], object]
) -> Run:
    """Train a fresh classifier, seeded, on logits `[B, 1]` and labels `[B]`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(data.features.shape[1], 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    shuffle = torch.Generator().manual_seed(0)
    means: list[float] = []
    norms: list[Tensor] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(epochs):
            order = torch.randperm(len(data.labels), generator=shuffle)
            values: list[Tensor] = []
            norms.clear()  # only the last epoch counts
            for batch in torch.split(order, batch_size):
                optimizer.zero_grad()
                value = loss(model(data.features[batch]), data.labels[batch])
                torch.autograd.backward(value)
                optimizer.step()
                values.append(value.detach())
                gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
                norms.append(torch.cat(gradients).norm())
            means.append(float(torch.stack(values).mean()))
            advance(len(values))
    with torch.no_grad():
        said_yes = model(data.held_out_features).squeeze(-1) > 0
    accuracy = (said_yes == data.held_out_labels.bool()).float().mean()
    return Run(tuple(means), float(accuracy), float(torch.stack(norms).mean()), len(caught))


def train_all(data: Data, batch_sizes: Iterable[int], epochs: int, console: "Console") -> Runs:
    """Every loss at every batch size, under a progress bar that counts optimiser steps."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    runs: Runs = {batch_size: {} for batch_size in batch_sizes}
    steps = sum(TRAIN_SIZE // batch_size for batch_size in runs) * epochs * len(LOSSES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are too small to share out
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            bar = progress.add_task("", total=steps)
            for batch_size, by_loss in runs.items():
                for name, loss in LOSSES.items():
                    progress.update(bar, description=f"B = {batch_size}, {name}")
                    by_loss[name] = train(
                        data, loss, batch_size, epochs, lambda n: progress.advance(bar, n)
                    )
    finally:
        torch.set_num_threads(threads)
    return runs


def is_healthy(run: Run, reference: Run) -> bool:
    """Whether a run ended where the reference did, to within what rounding can do."""
    return (
        abs(run.losses[-1] - reference.losses[-1]) <= 1e-3 * abs(reference.losses[-1])
        and run.accuracy == reference.accuracy
    )


def judge(runs: Runs) -> Verdict:
    """Compare the swapped-in loss with the correct one; NaN is never as good."""
    pairs = {size: (by_loss[SWAPPED_IN], by_loss[CORRECT]) for size, by_loss in runs.items()}
    worse = [
        str(size)
        for size, (ours, best) in pairs.items()
        if not (ours.losses[-1] <= 1.001 * best.losses[-1] and ours.accuracy >= best.accuracy)
    ]
    if worse:
        where = ", ".join(worse)
        return Verdict(False, f"{SWAPPED_IN} trained worse than {CORRECT} at B = {where}.")
    equal = sum(ours.losses == best.losses for ours, best in pairs.values())
    size, last = max(runs.items())
    broken = max(last[name].accuracy for name in BROKEN)
    return Verdict(
        True,
        f"{SWAPPED_IN}: the correct losses, bit for bit, at {equal} of {len(runs)} batch sizes; "
        f"at B = {size} accuracy {last[SWAPPED_IN].accuracy:.3f}, broken at most {broken:.3f}.",
    )


def table_of(runs: Runs) -> "Table":
    """The results; a run that did not end where the correct one did is red, and has a mark."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("batch size B")
    for size in runs:
        table.add_column(str(size), justify="right")
    measures: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
        ("held-out accuracy", ".3f", lambda run: run.accuracy),
        ("final loss", "#.3g", lambda run: run.losses[-1]),
        ("gradient norm", "#.3g", lambda run: run.gradient_norm),
    )
    for title, form, measure in measures:
        table.add_row(Text(title, style="bold"))
        for name in LOSSES:
            cells: list[Text] = []
            for by_loss in runs.values():
                healthy = is_healthy(by_loss[name], by_loss[CORRECT])
                number = format(measure(by_loss[name]), form)
                cells.append(
                    Text(f"{number} " if healthy else f"{number}!", "green" if healthy else "red")
                )
            table.add_row(Text(f"  {LABELS[name]}"), *cells)
        table.add_section()
    return table


def draw(runs: Runs, output: Path, guess: float) -> None:
    """Write the picture: loss curves at one batch size, accuracy and gradient norm at all of them.

    `guess` is the accuracy of always giving the commoner answer.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing global, and Agg writes the file

    shown = 32 if 32 in runs else max(runs)
    sizes = list(runs)
    figure = Figure(figsize=(13, 5.6), dpi=150, layout="constrained")
    curves, accuracies, norms = figure.subplots(1, 3)
    for name, color in COLORS.items():
        style = "--" if name == SWAPPED_IN else "-"
        width = WIDTHS[name]
        losses = runs[shown][name].losses
        for axes, x, y in (
            (curves, range(1, len(losses) + 1), losses),
            (accuracies, sizes, [runs[size][name].accuracy for size in sizes]),
            (norms, sizes, [runs[size][name].gradient_norm for size in sizes]),
        ):
            axes.plot(x, y, f"{style}o", color=color, lw=width, ms=width + 2, label=LABELS[name])
    accuracies.axhline(guess, color="#888888", lw=1, ls=":")
    place = {"transform": accuracies.get_yaxis_transform(), "va": "top", "color": "#666666"}
    accuracies.text(0.02, guess - 0.005, "always the commoner answer", fontsize=8, **place)
    lowest = min(run.accuracy for by_loss in runs.values() for run in by_loss.values())
    accuracies.set_ylim(bottom=min(guess, lowest) - 0.05)
    curves.set(xlabel="epoch", ylabel="training loss (mean of an epoch)", yscale="log")
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.set_title(f"Loss while training, B = {shown}: lower is better", loc="left", fontsize=11)
    accuracies.set(ylabel="held-out accuracy")
    accuracies.set_title("Accuracy against B: higher is better", loc="left", fontsize=11)
    norms.set(ylabel="gradient norm, last epoch", yscale="log")
    norms.set_title("Gradient norm against B", loc="left", fontsize=11)
    for axes in (accuracies, norms):
        axes.set(xlabel="batch size B")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
    for axes in (curves, accuracies, norms):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", lw=0.8)
        axes.set_axisbelow(True)
    handles, labels = curves.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(CAPTION, x=0.01, ha="left", fontsize=10, linespacing=1.5)
    figure.savefig(output, format="png")


def refusal() -> str:
    """What the library says to logits `[8, 1]` and labels `[1, 8]`, word for word."""
    try:
        SafeBCEWithLogitsLoss()(torch.zeros(8, 1), torch.zeros(1, 8))
    except SafeLossError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("crossed logits and labels were accepted")


def run(output: Path, epochs: int | None = None, quick: bool = False) -> int:
    """Train, print, draw and judge; the exit code is 0 if the last loss trained as well."""
    if any(find_spec(package) is None for package in ("rich", "matplotlib", "sklearn")):
        print(MISSING, file=sys.stderr)
        return 2
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    data = load()
    epochs = epochs or (QUICK_EPOCHS if quick else EPOCHS)
    console.print(
        f"Breast cancer data: {len(data.labels)} samples to train on, "
        f"{len(data.held_out_labels)} held out.\n"
        f"A linear head gives logits [B, 1], the labels are [B]; Adam, {epochs} epochs.\n"
        "Same start and same batches for every loss; nothing else differs."
    )
    runs = train_all(data, QUICK_BATCH_SIZES if quick else BATCH_SIZES, epochs, console)
    console.print(table_of(runs))
    warned = sum(by_loss[name].warnings for by_loss in runs.values() for name in BROKEN)
    majority = float(data.held_out_labels.mean())
    guess = max(majority, 1 - majority)
    colored = console.color_system is not None and not console.no_color
    marked = "What is red, with a `!`," if colored else "What has a `!`"
    console.print(
        f"{marked} did not end where `{CORRECT}` did.\n"
        f"Always giving the commoner answer scores {guess:.3f}.\n"
        f"PyTorch {torch.__version__} let the broken losses train: {warned} warnings, no error.\n"
    )
    draw(runs, output, guess)
    console.print(f"Picture: {output}\n\nAnd labels of shape [1, 8] for logits [8, 1]:\n")
    console.print(refusal(), style="dim", soft_wrap=True)
    verdict = judge(runs)
    style = "bold green" if verdict.passed else "bold red"
    console.print(f"\n{verdict.text}", style=style, soft_wrap=True)
    return 0 if verdict.passed else 1
