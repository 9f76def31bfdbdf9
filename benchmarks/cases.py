"""The losses that are measured, one row each."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import safeloss
from safeloss import functional as SF

Tensors = tuple[Tensor, ...]
CLASSES = 8


class Case(NamedTuple):
    """A native loss and the safe one that stands in for it, as modules and as functions."""

    name: str  # the safe loss, with "/" and the native one where that is not its namesake
    native: Callable[..., Any]
    safe: Callable[..., Any]
    native_function: Callable[..., Tensor] | None  # of the same inputs
    safe_function: Callable[..., Tensor] | None
    inputs: Callable[[int], Tensors]  # what PyTorch must be given, with scores of n elements
    normalised: Callable[..., Tensors] | None  # the same numbers, of a shape that is repaired
    scores: tuple[int, ...] = (0,)  # which of the inputs get gradients
    compiles: bool = True  # natively, in one graph
    captures: bool = True  # natively, in a CUDA graph: it reads no numbers on the host


def binary(elements: int) -> Tensors:
    """Yes/no questions, `[batch, 1]` both."""
    shape = (elements, 1)
    return torch.randn(shape), torch.randint(2, shape).float()


def several(elements: int) -> Tensors:
    """Several yes/no questions per sample, `[batch, classes]` both; never fewer than one sample."""
    shape = (max(1, elements // CLASSES), CLASSES)
    return torch.randn(shape), torch.randint(2, shape).float()


def indices(elements: int) -> Tensors:
    """Scores `[batch, classes]` and the indices `[batch]` of the right classes."""
    batch = max(1, elements // CLASSES)
    return torch.randn(batch, CLASSES), torch.randint(CLASSES, (batch,))


def numbers(elements: int) -> Tensors:
    """Predictions and targets, `[batch, 1]` both."""
    return torch.randn(elements, 1), torch.randn(elements, 1)


def chances(elements: int) -> Tensors:
    """Probabilities and labels, `[batch, 1]` both."""
    return torch.rand(elements, 1), torch.randint(2, (elements, 1)).float()


def counts(elements: int) -> Tensors:
    """Logarithms of rates, and counts."""
    return torch.randn(elements, 1), torch.randint(5, (elements, 1)).float()


def spreads(elements: int) -> Tensors:
    """Means, targets and variances."""
    return (*numbers(elements), torch.rand(elements, 1) + 0.1)


def signs(elements: int) -> Tensors:
    """Scores, and labels of -1 or 1."""
    return torch.randn(elements, 1), torch.randint(2, (elements, 1)) * 2.0 - 1


def ranked(elements: int) -> Tensors:
    """Two scores, and which of them is higher."""
    return (torch.randn(elements, 1), *signs(elements))


def distributions(elements: int) -> Tensors:
    """Log-probabilities and probabilities, `[batch, classes]` both."""
    shape = (max(1, elements // CLASSES), CLASSES)
    return torch.randn(shape).log_softmax(1), torch.randn(shape).softmax(1)


def log_indices(elements: int) -> Tensors:
    """Log-probabilities `[batch, classes]` and the indices `[batch]` of the right classes."""
    scores, target = indices(elements)
    return scores.log_softmax(1), target


def sets(elements: int) -> Tensors:
    """Scores and sets of class indices that end at -1, `[batch, classes]` both."""
    shape = (max(1, elements // CLASSES), CLASSES)
    target = torch.full(shape, -1)
    target[:, :2] = torch.tensor([1, 4])
    return torch.randn(shape), target


def triplets(elements: int) -> Tensors:
    """Three points, `[batch, features]` each."""
    shape = (max(1, elements // CLASSES), CLASSES)
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


def pairs(elements: int) -> Tensors:
    """Two points `[batch, features]`, and whether they are alike `[batch]`."""
    one, other, _ = triplets(elements)
    return one, other, signs(len(one))[1].squeeze(1)


def sequences(elements: int) -> Tensors:
    """Log-probabilities `[16, batch, classes]`, padded labels and lengths."""
    batch = max(1, elements // (16 * CLASSES))
    lengths = (torch.full((batch,), 16), torch.full((batch,), 5))
    labels = torch.randint(1, CLASSES, (batch, 5))
    return (torch.randn(16, batch, CLASSES).log_softmax(-1), labels, *lengths)


def squeezed(input: Tensor, *targets: Tensor) -> Tensors:
    return (input, *(target.squeeze(-1) for target in targets))


def unsqueezed(input: Tensor, target: Tensor) -> Tensors:
    return input, target.unsqueeze(1)


def first_of(layer: Callable[..., nn.Module], **options: Any) -> Callable[..., Tensor]:
    """The loss alone of a layer that gives more than that."""
    made = layer(**options)
    return lambda *inputs: made(*inputs).loss


batchmean = {"reduction": "batchmean"}
layer = {"in_features": CLASSES, "n_classes": 64, "cutoffs": [8, 24]}


# fmt: off
CASES = (
    Case("BCEWithLogits",
         nn.BCEWithLogitsLoss, safeloss.SafeBCEWithLogitsLoss,
         F.binary_cross_entropy_with_logits, SF.binary_cross_entropy_with_logits,
         binary, squeezed),
    Case("CrossEntropy",
         nn.CrossEntropyLoss, safeloss.SafeCrossEntropyLoss,
         F.cross_entropy, SF.cross_entropy,
         indices, unsqueezed),
    Case("MultiLabelBCE/SoftMargin",
         nn.MultiLabelSoftMarginLoss, safeloss.MultiLabelBCE,
         F.multilabel_soft_margin_loss, SF.multilabel_binary_cross_entropy,
         several, unsqueezed),
    Case("MultiLabelBCE/BCE",
         nn.BCEWithLogitsLoss, safeloss.MultiLabelBCE,
         F.binary_cross_entropy_with_logits, SF.multilabel_binary_cross_entropy,
         several, unsqueezed),
    Case("BCE",
         nn.BCELoss, safeloss.SafeBCELoss,
         F.binary_cross_entropy, SF.binary_cross_entropy, chances, squeezed),
    Case("MultiLabelSoftMargin",
         nn.MultiLabelSoftMarginLoss, safeloss.SafeMultiLabelSoftMarginLoss,
         F.multilabel_soft_margin_loss, SF.multilabel_soft_margin_loss, several, unsqueezed),
    Case("SoftMargin",
         nn.SoftMarginLoss, safeloss.SafeSoftMarginLoss,
         F.soft_margin_loss, SF.soft_margin_loss, signs, squeezed),
    Case("HingeEmbedding",
         nn.HingeEmbeddingLoss, safeloss.SafeHingeEmbeddingLoss,
         F.hinge_embedding_loss, SF.hinge_embedding_loss, signs, squeezed),
    Case("NLL",
         nn.NLLLoss, safeloss.SafeNLLLoss, F.nll_loss, SF.nll_loss, log_indices, unsqueezed),
    Case("MultiMargin",
         nn.MultiMarginLoss, safeloss.SafeMultiMarginLoss,
         F.multi_margin_loss, SF.multi_margin_loss, indices, unsqueezed),
    Case("MultiLabelMargin",
         nn.MultiLabelMarginLoss, safeloss.SafeMultiLabelMarginLoss,
         F.multilabel_margin_loss, SF.multilabel_margin_loss, sets, unsqueezed),
    Case("L1", nn.L1Loss, safeloss.SafeL1Loss, F.l1_loss, SF.l1_loss, numbers, squeezed),
    Case("MSE", nn.MSELoss, safeloss.SafeMSELoss, F.mse_loss, SF.mse_loss, numbers, squeezed),
    Case("SmoothL1",
         nn.SmoothL1Loss, safeloss.SafeSmoothL1Loss,
         F.smooth_l1_loss, SF.smooth_l1_loss, numbers, squeezed),
    Case("Huber",
         nn.HuberLoss, safeloss.SafeHuberLoss, F.huber_loss, SF.huber_loss, numbers, squeezed),
    Case("PoissonNLL",
         nn.PoissonNLLLoss, safeloss.SafePoissonNLLLoss,
         F.poisson_nll_loss, SF.poisson_nll_loss, counts, squeezed),
    Case("GaussianNLL",
         nn.GaussianNLLLoss, safeloss.SafeGaussianNLLLoss,
         F.gaussian_nll_loss, SF.gaussian_nll_loss, spreads, None,
         compiles=False, captures=False),
    Case("KLDiv",
         partial(nn.KLDivLoss, **batchmean), partial(safeloss.SafeKLDivLoss, **batchmean),
         partial(F.kl_div, **batchmean), partial(SF.kl_div, **batchmean),
         distributions, unsqueezed),
    Case("MarginRanking",
         nn.MarginRankingLoss, safeloss.SafeMarginRankingLoss,
         F.margin_ranking_loss, SF.margin_ranking_loss, ranked, squeezed, (0, 1)),
    Case("CosineEmbedding",
         nn.CosineEmbeddingLoss, safeloss.SafeCosineEmbeddingLoss,
         F.cosine_embedding_loss, SF.cosine_embedding_loss, pairs, None, (0, 1)),
    Case("TripletMargin",
         nn.TripletMarginLoss, safeloss.SafeTripletMarginLoss,
         F.triplet_margin_loss, SF.triplet_margin_loss, triplets, None, (0, 1, 2)),
    Case("TripletMarginWithDistance",
         nn.TripletMarginWithDistanceLoss, safeloss.SafeTripletMarginWithDistanceLoss,
         F.triplet_margin_with_distance_loss, SF.triplet_margin_with_distance_loss,
         triplets, None, (0, 1, 2)),
    Case("CTC",
         nn.CTCLoss, safeloss.SafeCTCLoss, F.ctc_loss, SF.ctc_loss, sequences, None,
         compiles=False, captures=False),
    Case("AdaptiveLogSoftmax",
         partial(first_of, nn.AdaptiveLogSoftmaxWithLoss, **layer),
         partial(first_of, safeloss.SafeAdaptiveLogSoftmaxWithLoss, **layer),
         None, None, indices, unsqueezed, compiles=False, captures=False),
)
# fmt: on
if hasattr(nn, "LinearCrossEntropyLoss"):  # since torch 2.13
    linear = {"in_features": CLASSES, "num_classes": CLASSES}
    CASES += (
        Case(
            "LinearCrossEntropy",
            partial(nn.LinearCrossEntropyLoss, **linear),
            partial(safeloss.SafeLinearCrossEntropyLoss, **linear),
            None,
            None,
            indices,
            unsqueezed,
        ),
    )


def named(cases: tuple[Case, ...], names: list[str]) -> tuple[Case, ...]:
    """The rows whose names contain one of `names`, in any case; all of them for none."""
    wanted = [name.lower() for name in names]
    return tuple(
        case for case in cases if not wanted or any(name in case.name.lower() for name in wanted)
    )


def prepared(case: Case, elements: int, backward: bool) -> Tensors:
    """The inputs of `case`, the same ones every time; their scores get gradients for `backward`."""
    torch.manual_seed(0)
    made = case.inputs(elements)
    for position in case.scores:
        made[position].requires_grad_(backward)
    return made


def as_passed(case: Case, inputs: Tensors) -> Tensors:
    """`inputs` in the shape that is repaired, sharing the leaves that get gradients."""
    assert case.normalised is not None
    return case.normalised(*inputs)


def shapes(inputs: Tensors) -> list[Any]:
    return [list(tensor.shape) for tensor in inputs]
