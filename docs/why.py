"""Measures the tables of `why.md`.

The installed PyTorch is asked what it does; the training run is small and seeded.
"""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safeloss import SafeBCEWithLogitsLoss

BATCHES = (1, 8, 32, 128)


def by_hand(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy as people write it; it broadcasts whatever it is given."""
    return -(labels * F.logsigmoid(logits) + (1 - labels) * F.logsigmoid(-logits)).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "correct": lambda logits, labels: F.binary_cross_entropy_with_logits(logits[:, 0], labels),
    "written by hand": by_hand,
    "`F.multilabel_soft_margin_loss`": F.multilabel_soft_margin_loss,
    "`SafeBCEWithLogitsLoss`": SafeBCEWithLogitsLoss(),
}


def train(loss: Callable[[Tensor, Tensor], Tensor], batch: int) -> tuple[float, float]:
    """Accuracy and last loss: 512 samples, 10 features, `nn.Linear(10, 1)`, Adam, 20 epochs."""
    torch.manual_seed(0)
    x = torch.randn(512, 10)
    y = (x @ torch.randn(10) > 0).float()
    head = nn.Linear(10, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    value = torch.zeros(())
    for _ in range(20):
        for samples in torch.randperm(512).split(batch):
            value = loss(head(x[samples]), y[samples])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return ((head(x)[:, 0] > 0) == (y > 0)).float().mean().item(), value.item()


def training() -> str:
    """The accuracy after training, by batch size."""
    lines = [
        f"| batch | {' | '.join(LOSSES)} |",
        f"|---|{'---|' * len(LOSSES)}",
    ]
    for batch in BATCHES:
        runs = [train(loss, batch) for loss in LOSSES.values()]
        cells = [f"{accuracy:.3f} (loss {value:.3g})" for accuracy, value in runs]
        lines.append(f"| {batch} | {' | '.join(cells)} |")
    return "\n".join(lines)


B, C, T = 8, 5, 5
x, y = torch.full((B, 1), 0.5), torch.ones(B)
SQUARE = "`[B, 1]` with `[B]`"
CALLS: list[tuple[str, str, Callable[[], Tensor]]] = [
    ("binary_cross_entropy", SQUARE, lambda: F.binary_cross_entropy(x, y)),
    (
        "binary_cross_entropy_with_logits",
        SQUARE,
        lambda: F.binary_cross_entropy_with_logits(x, y),
    ),
    ("soft_margin_loss", SQUARE, lambda: F.soft_margin_loss(x, y)),
    ("margin_ranking_loss", SQUARE, lambda: F.margin_ranking_loss(x, x, y)),
    ("mse_loss", SQUARE, lambda: F.mse_loss(x, y, reduction="none")),
    ("l1_loss", SQUARE, lambda: F.l1_loss(x, y, reduction="none")),
    ("smooth_l1_loss", SQUARE, lambda: F.smooth_l1_loss(x, y, reduction="none")),
    ("huber_loss", SQUARE, lambda: F.huber_loss(x, y, reduction="none")),
    ("poisson_nll_loss", SQUARE, lambda: F.poisson_nll_loss(x, y, reduction="none")),
    ("kl_div", SQUARE, lambda: F.kl_div(x, y, reduction="none")),
    ("hinge_embedding_loss", SQUARE, lambda: F.hinge_embedding_loss(x, y, reduction="none")),
    ("gaussian_nll_loss", SQUARE, lambda: F.gaussian_nll_loss(x, y, x, reduction="none")),
    (
        "multilabel_soft_margin_loss",
        SQUARE,
        lambda: F.multilabel_soft_margin_loss(x, y, reduction="none"),
    ),
    (
        "cross_entropy",
        "`[B]` with floating `[B]`: a softmax over the batch",
        lambda: F.cross_entropy(y, y),
    ),
    (
        "cross_entropy",
        "`[B, 1]` with `[B]`: the softmax of one class",
        lambda: F.cross_entropy(x, torch.zeros(B).long(), reduction="none"),
    ),
    (
        "cross_entropy",
        "`[B, T, C]` with `[B, T]`, `T == C`: a wrong class axis",
        lambda: F.cross_entropy(torch.zeros(B, T, C), torch.zeros(B, T).long(), reduction="none"),
    ),
    (
        "cross_entropy",
        "`[B, C]` with multi-hot `[B, C]`: rows that do not sum to 1",
        lambda: F.cross_entropy(torch.zeros(B, C), torch.ones(B, C)),
    ),
    (
        "cross_entropy",
        "every target is `ignore_index`",
        lambda: F.cross_entropy(torch.zeros(B, C), torch.full((B,), -100)),
    ),
    (
        "binary_cross_entropy_with_logits",
        "targets -1 and 2",
        lambda: F.binary_cross_entropy_with_logits(y, torch.tensor([-1.0, 2.0] * 4)),
    ),
    (
        "binary_cross_entropy_with_logits",
        "`weight [B]` with `[B, C]`, `B == C`: read as one per class",
        lambda: F.binary_cross_entropy_with_logits(
            torch.zeros(B, B), torch.ones(B, B), torch.ones(B), reduction="none"
        ),
    ),
    (
        "binary_cross_entropy_with_logits",
        "`pos_weight [C]` with `[B, C, H, W]`, `C == W`: applied along W",
        lambda: F.binary_cross_entropy_with_logits(
            torch.zeros(2, C, 3, C), torch.ones(2, C, 3, C), pos_weight=torch.ones(C)
        ),
    ),
    ("nll_loss", "raw logits", lambda: F.nll_loss(torch.zeros(B, C), torch.zeros(B).long())),
    (
        "cosine_embedding_loss",
        "`[B, D]` with `[1, D]`",
        lambda: F.cosine_embedding_loss(torch.ones(B, C), torch.ones(1, C), y, reduction="none"),
    ),
    (
        "triplet_margin_loss",
        "`[B, D]` with `[1, D]`",
        lambda: F.triplet_margin_loss(
            torch.ones(B, C), torch.ones(1, C), torch.ones(1, C), reduction="none"
        ),
    ),
]


def outcome(call: Callable[[], Tensor]) -> str:
    """What PyTorch does."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            value = call()
        except (ValueError, RuntimeError) as error:
            return f"raises {type(error).__name__}"
    manner = "warns" if said else "**silent**"
    if value.dim() == 0:
        return f"{manner}: {value.item():.4g}"
    return f"{manner}: a result of shape {list(value.shape)}"


def native() -> str:
    """What PyTorch does with each of the calls, at B = 8."""
    lines = ["| call | inputs | outcome |", "|---|---|---|"]
    lines += [f"| `{name}` | {inputs} | {outcome(call)} |" for name, inputs, call in CALLS]
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {"training": training, "native": native}
