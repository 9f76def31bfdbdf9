"""What type checkers know of a loss. It is checked like a user's program under `mypy --strict`.

Each comment that ignores an error is a test: the checkers report those that are not needed.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import assert_type

import safeloss
from safeloss import (
    MultiLabelBCE,
    SafeBCEWithLogitsLoss,
    SafeCrossEntropyLoss,
    SafeMSELoss,
    layouts,
)

x = torch.rand(4, 3)
signs = torch.ones(4, 3)


def every_loss_gives_a_tensor() -> None:
    assert_type(SafeBCEWithLogitsLoss()(x, x), Tensor)
    assert_type(MultiLabelBCE()(x, target=x), Tensor)
    assert_type(SafeCrossEntropyLoss()(input=x, target=x.softmax(1)), Tensor)
    assert_type(SafeMSELoss()(x, x), Tensor)
    assert_type(safeloss.SafeBCELoss()(x, x), Tensor)
    assert_type(safeloss.SafeSoftMarginLoss()(x, signs), Tensor)
    assert_type(safeloss.SafeHingeEmbeddingLoss()(x, signs), Tensor)
    assert_type(safeloss.SafeMultiLabelSoftMarginLoss()(x, x), Tensor)
    assert_type(safeloss.SafeNLLLoss()(x.log_softmax(1), torch.tensor([0, 1, 2, 0])), Tensor)
    assert_type(safeloss.SafeMultiMarginLoss()(x, torch.tensor([0, 1, 2, 0])), Tensor)
    assert_type(safeloss.SafeMultiLabelMarginLoss()(x, torch.full((4, 3), -1)), Tensor)
    assert_type(safeloss.SafeL1Loss()(x, x), Tensor)
    assert_type(safeloss.SafeSmoothL1Loss()(x, x), Tensor)
    assert_type(safeloss.SafeHuberLoss()(x, x), Tensor)
    assert_type(safeloss.SafePoissonNLLLoss()(log_input=x, target=x), Tensor)
    assert_type(safeloss.SafeGaussianNLLLoss()(x, x, var=1.0), Tensor)
    assert_type(safeloss.SafeKLDivLoss(reduction="batchmean")(x.log_softmax(1), x), Tensor)
    assert_type(safeloss.SafeMarginRankingLoss()(input1=x, input2=x, target=signs), Tensor)
    assert_type(safeloss.SafeCosineEmbeddingLoss()(x, x, signs[:, 0]), Tensor)
    assert_type(safeloss.SafeTripletMarginLoss()(anchor=x, positive=x, negative=x), Tensor)
    assert_type(safeloss.SafeTripletMarginWithDistanceLoss()(x, x, negative=x), Tensor)
    scores = torch.rand(4, 3, 5).log_softmax(2)
    labels, lengths = torch.tensor([[1, 2]] * 3), [2, 2, 2]
    assert_type(safeloss.SafeCTCLoss()(scores, labels, lengths, lengths), Tensor)


def weights_and_masks_are_given_with_the_call() -> None:
    loss = SafeMSELoss()
    assert_type(loss(x, x, sample_weight=torch.rand(4), mask=torch.ones(4).bool()), Tensor)
    assert_type(loss(x, x, denominator=12), Tensor)


def what_is_no_call() -> None:
    loss = SafeCrossEntropyLoss()
    loss(1, "a")  # type: ignore[arg-type]
    loss(x)  # type: ignore[call-arg]
    loss(x, x, x)  # type: ignore[call-arg]
    loss(x, targets=x)  # type: ignore[call-arg]
    loss(x, x, mean=True)  # type: ignore[call-arg]
    loss(x, x, mask=[True])  # type: ignore[arg-type]
    loss.forward(1, x)  # type: ignore[arg-type]


def options_have_their_types() -> None:
    loss = SafeCrossEntropyLoss()
    assert_type(loss.class_dim, Literal[1, -1] | None)
    assert_type(loss.check_values, Literal["first", "never", "always"])
    assert_type(loss.empty, Literal["warn", "zero", "nan", "raise"])
    assert_type(loss.weight, Tensor | None)
    assert_type(loss.ignore_index, int)
    assert_type(MultiLabelBCE().num_classes, int | None)
    assert_type(MultiLabelBCE().pos_weight, Tensor | None)
    loss.class_dim = -1
    loss.class_dim = 2  # type: ignore[assignment]
    loss.empty = "none"  # type: ignore[assignment]


def forward_is_that_of_torch() -> None:
    loss = SafeCrossEntropyLoss()
    assert_type(loss.forward(x, target=x.softmax(1)), Tensor)
    poisson = safeloss.SafePoissonNLLLoss()
    assert_type(poisson.forward(log_input=x, target=x), Tensor)


class Smoothed(SafeCrossEntropyLoss):
    """A subclass may write `forward` as it would for PyTorch's class."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return 0.9 * super().forward(input, target)


@safeloss.checked
def quantile(
    pred: layouts.Predictions, y: layouts.Targets, *, q: float = 0.9
) -> Float[Tensor, "*shape"]:
    error = y - pred
    return torch.maximum(q * error, (q - 1) * error)


class Quantile(safeloss.LossModule, kernel=quantile):
    """A loss of one's own; its fields are arguments of the constructor."""

    q: float = 0.9


class Smooth(Quantile):
    """A subclass with the same fields."""


def fields_are_arguments_by_name() -> None:
    loss = Quantile(q=0.5, reduction="sum", check_values="never", empty="zero")
    assert_type(loss.q, float)
    assert_type(loss.reduction, Literal["none", "mean", "sum"])
    Smooth(q=0.1)
    assert_type(safeloss.DiceLoss(softmax=True, smooth=1.0).smooth, float)
    assert_type(safeloss.SoftmaxFocalLoss(weight=torch.rand(3), ignore_index=255).ignore_index, int)


def what_is_no_constructor() -> None:
    Quantile(0.5)  # type: ignore[call-arg, arg-type]
    Quantile(q="0.5")  # type: ignore[arg-type]
    Quantile(p=0.5)  # type: ignore[call-arg]
    Quantile(reduction="average")  # type: ignore[arg-type]
    Smooth(q=[0.1])  # type: ignore[arg-type]


def train(model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Any function of two tensors will do, and a loss is one."""
    scores: Tensor = model(x)
    return criterion(scores, torch.rand(4, 1))


def main() -> None:
    every_loss_gives_a_tensor()
    weights_and_masks_are_given_with_the_call()
    options_have_their_types()
    forward_is_that_of_torch()
    fields_are_arguments_by_name()
    assert_type(Smoothed()(x, x.softmax(1)), Tensor)
    train(nn.Linear(3, 1), SafeMSELoss())


if __name__ == "__main__":
    main()
