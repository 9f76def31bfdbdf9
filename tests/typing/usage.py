"""What people write with this library; mypy and pyright must have nothing to say of it."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from typing_extensions import assert_type

import safeloss
from safeloss import (
    AmbiguousLayoutError,
    LayoutError,
    MultiLabelBCE,
    SafeBCEWithLogitsLoss,
    SafeCrossEntropyLoss,
    SafeLossError,
    ValueRangeError,
    layouts,
)
from safeloss import functional as SF
from safeloss.errors import Argument, Fix

B, C, T, D = 4, 3, 5, 6


# Modules: torch's own arguments by position and by name, and ours by name.


def construct_every_loss() -> list[nn.Module]:
    weight, pos_weight = torch.rand(C), torch.tensor(2.0)
    return [
        safeloss.SafeBCELoss(),
        safeloss.SafeBCELoss(weight, None, None, "sum"),
        SafeBCEWithLogitsLoss(pos_weight=pos_weight, check_values="always", empty="zero"),
        MultiLabelBCE(num_classes=C, class_dim=-1, reduction="none"),
        SafeCrossEntropyLoss(weight, ignore_index=255, label_smoothing=0.1, class_dim=-1),
        safeloss.SafeCrossEntropy(check_values="never", empty="nan"),
        safeloss.SafeNLLLoss(weight, ignore_index=-1),
        safeloss.SafeMultiMarginLoss(2, 0.5, weight),
        safeloss.SafeMultiLabelMarginLoss(reduction="sum"),
        safeloss.SafeMultiLabelSoftMarginLoss(weight=weight),
        safeloss.SafeSoftMarginLoss(),
        safeloss.SafeHingeEmbeddingLoss(margin=2.0),
        safeloss.SafeL1Loss(),
        safeloss.SafeMSELoss(reduction="none", empty="zero"),
        safeloss.SafeSmoothL1Loss(beta=0.5),
        safeloss.SafeHuberLoss(delta=0.5),
        safeloss.SafePoissonNLLLoss(log_input=False, full=True),
        safeloss.SafeGaussianNLLLoss(full=True, eps=1e-3),
        safeloss.SafeKLDivLoss(reduction="batchmean", log_target=True),
        safeloss.SafeCosineEmbeddingLoss(margin=0.1),
        safeloss.SafeMarginRankingLoss(margin=0.1),
        safeloss.SafeTripletMarginLoss(margin=0.1, p=2.0, swap=True),
        safeloss.SafeTripletMarginWithDistanceLoss(
            distance_function=nn.PairwiseDistance(), margin=0.1
        ),
        safeloss.SafeCTCLoss(blank=0, zero_infinity=True),
    ]


def call_modules() -> Tensor:
    binary: nn.BCEWithLogitsLoss = SafeBCEWithLogitsLoss()
    total: Tensor = binary(torch.randn(B, 1), torch.rand(B))
    total += binary(input=torch.randn(B, 1), target=torch.rand(B))
    classes = SafeCrossEntropyLoss(class_dim=-1)
    classes.reduction = "sum"
    total += classes(torch.randn(B, T, C), torch.zeros(B, T, dtype=torch.long))
    criterion: nn.Module = safeloss.SAFE[nn.MSELoss]().to("cpu").double().eval()
    total += criterion(torch.randn(B, 1).double(), torch.randn(B).double())
    total.requires_grad_().backward()
    return total.detach()


def call_functions(reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    scores, labels = torch.randn(B, C), torch.randint(2, (B, C))
    indices = torch.zeros(B, dtype=torch.uint8)
    loss = SF.binary_cross_entropy_with_logits(scores, labels, reduction=reduction)
    assert_type(loss, Tensor)
    loss += SF.binary_cross_entropy_with_logits(
        input=scores, target=labels, weight=None, pos_weight=torch.rand(C), check_values="always"
    )
    loss += SF.multilabel_binary_cross_entropy(scores, labels, num_classes=C)
    loss += SF.cross_entropy(scores, indices, torch.rand(C), ignore_index=-1, empty="zero")
    loss += SF.mse_loss(scores, target=torch.randn(B, C))
    loss += SF.nll_loss(scores.log_softmax(1), indices)
    loss += SF.huber_loss(scores, scores, delta=0.5)
    return loss


def what_no_checker_lets_pass() -> list[str]:
    """The ignores are the test: a checker reports those that it does not need."""
    said = []
    for loss in (SafeBCEWithLogitsLoss, SafeCrossEntropyLoss):
        try:
            loss(reduction="avg")  # type: ignore[arg-type]
        except ValueError as error:
            said.append(str(error))
    try:
        SF.cross_entropy(torch.randn(B, C), [0, 1, 2, 0])  # type: ignore[arg-type]
    except safeloss.ArgumentTypeError as error:
        said.append(str(error))
    return said


# Heads.


class Head(nn.Module):
    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(D, outputs)

    @safeloss.typed
    def forward(self, x: Float[Tensor, "batch features"]) -> layouts.BinaryLogits:
        scores: Tensor = self.linear(x)
        return scores

    @safeloss.typed
    def both(
        self, x: Float[Tensor, "batch features"], mask: Bool[Tensor, " batch"] | None = None
    ) -> tuple[layouts.BinaryLogits, Float[Tensor, "batch features"]]:
        kept = x if mask is None else x * mask.unsqueeze(1)
        return self.forward(kept), kept


@safeloss.typed
def probabilities(scores: layouts.ClassLogits, temperature: float = 1.0) -> layouts.ClassLogits:
    return (scores / temperature).softmax(1)


def use_heads() -> Tensor:
    head = Head()
    scores, kept = head.both(torch.randn(B, D), mask=torch.rand(B) > 0.5)
    assert_type(kept, Tensor)
    assert_type(probabilities(torch.randn(B, C), temperature=2.0), Tensor)
    return SF.binary_cross_entropy_with_logits(scores, torch.rand(B))


# Losses by hand.


def focal_loss(scores: layouts.Scores, labels: layouts.Labels, gamma: float = 2.0) -> Tensor:
    aligned = safeloss.align(labels, like=scores)
    assert_type(aligned, Tensor)
    each = SF.binary_cross_entropy_with_logits(scores, aligned, reduction="none")
    return ((1 - torch.exp(-each)) ** gamma * each).mean()


# Guards and traces, which leave the type of what they decorate alone.


@safeloss.guard(on="warn")
@safeloss.allow()
@safeloss.trace()
def decorated(scores: Tensor, *, scale: float) -> tuple[Tensor, float]:
    return scores, scale


def watch() -> None:
    with safeloss.guard(on="log", arithmetic=True) as findings, safeloss.trace() as t:
        scores, scale = decorated(torch.randn(B, 1), scale=2.0)
        assert_type(scores, Tensor)
        assert_type(scale, float)
    assert_type(findings.calls, int)
    assert_type([finding.fix for finding in findings], list[str])
    assert_type([step.operation for step in t.history(scores)], list[str])


# Refusals.


def read_a_refusal() -> list[str]:
    said: list[str] = []
    try:
        SafeBCEWithLogitsLoss()(torch.randn(B, 1), torch.rand(1, B))
    except AmbiguousLayoutError as error:
        raise AssertionError from error
    except LayoutError as error:
        assert_type(error.arguments, tuple[Argument, ...])
        assert_type(error.fixes, tuple[Fix, ...])
        said += [error.loss, error.rule, error.native, error.advice, *error.fixes]
        for argument in error.arguments:
            said += [argument.name, argument.came, argument.declared]
    try:
        SF.cross_entropy(torch.randn(B, C), torch.full((B,), C), check_values="always")
    except ValueRangeError as error:
        said.append(str(error))
    except (SafeLossError, ValueError, TypeError) as error:
        raise AssertionError from error
    return said


def check_a_training() -> None:
    model = torch.nn.Linear(3, 1)
    report = safeloss.check(model, (torch.randn(B, 3), torch.randn(B, 1)), torch.nn.MSELoss())
    assert_type(report.ok, bool)
    assert_type([line.advice for line in report.lines if line.status == "fail"], list[str])


def main() -> None:
    construct_every_loss()
    call_modules()
    call_functions()
    what_no_checker_lets_pass()
    use_heads()
    focal_loss(torch.randn(B, 1), torch.rand(B))
    watch()
    read_a_refusal()
    check_a_training()


if __name__ == "__main__":
    main()
