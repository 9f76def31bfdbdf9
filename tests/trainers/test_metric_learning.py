"""pytorch-metric-learning beside a loss of classes."""

import pytest

pytest.importorskip("pytorch_metric_learning")

# part: both
from pytorch_metric_learning.losses import TripletMarginLoss
from torch import nn

from safeloss import SafeCrossEntropyLoss


class Loss(nn.Module):
    def __init__(self, share=0.1):
        super().__init__()
        self.classes, self.triplets, self.share = SafeCrossEntropyLoss(), TripletMarginLoss(), share

    def forward(self, scores, embeddings, labels):
        return self.classes(scores, labels) + self.share * self.triplets(embeddings, labels)


# end

import torch
from pytorch_metric_learning.losses import ArcFaceLoss
from pytorch_metric_learning.trainers import TrainWithClassifier
from samples import classification, model, regression, weights
from torch import Tensor
from torch.utils.data import TensorDataset

import safeloss
from safeloss import DTypeError, LayoutError, SafeMSELoss


def curve(loss: nn.Module, x: Tensor, y: Tensor, outputs: int = 2) -> list[float]:
    """By the trainer of the library, whose second loss is that of the classes."""
    models = {"trunk": model(x.shape[1], 4), "classifier": model(4, outputs)}
    losses = []
    trainer = TrainWithClassifier(
        models,
        {
            f"{name}_optimizer": torch.optim.SGD(part.parameters(), 0.05)
            for name, part in models.items()
        },
        batch_size=32,
        loss_funcs={"metric_loss": TripletMarginLoss(), "classifier_loss": loss},
        dataset=TensorDataset(x, y),
        data_device=torch.device("cpu"),
        dataloader_num_workers=0,
        end_of_iteration_hook=lambda trainer: losses.append(trainer.losses["total_loss"].item()),
    )
    torch.manual_seed(0)  # the order of the samples
    trainer.train(num_epochs=2)
    return [*losses, *(number for part in models.values() for number in weights(part))]


def test_curves_are_those_of_pytorch() -> None:
    x, y = classification()
    assert curve(SafeCrossEntropyLoss(), x, y) == curve(nn.CrossEntropyLoss(), x, y)


def test_targets_without_the_axis_of_the_scores() -> None:
    """A number instead of classes beside the triplets: the trainer knows only targets `[B]`."""
    x, y = regression()
    y = y.round()  # the triplets take equal numbers for one class

    class Column(nn.MSELoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return super().forward(input, target.view(-1, 1))

    right = curve(Column(), x, y, outputs=1)
    assert curve(nn.MSELoss(), x, y, outputs=1) != right
    assert curve(SafeMSELoss(), x, y, outputs=1) == right
    with pytest.raises(LayoutError):
        curve(SafeMSELoss(), x, y, outputs=3)


def test_both_are_those_of_their_libraries() -> None:
    x, y = classification()
    scores, embeddings = model(30, 2)(x), model(30, 4)(x)
    expected = nn.CrossEntropyLoss()(scores, y) + 0.1 * TripletMarginLoss()(embeddings, y)
    assert torch.equal(Loss()(scores, embeddings, y), expected)


def test_the_cross_entropy_inside_its_losses_is_converted() -> None:
    x, y = classification()
    embeddings = model(30, 4)(x)
    torch.manual_seed(0)
    loss = ArcFaceLoss(num_classes=2, embedding_size=4)
    native = loss(embeddings, y)
    safeloss.convert(loss)
    assert type(loss.cross_entropy) is SafeCrossEntropyLoss
    assert torch.equal(loss(embeddings, y), native)


def test_what_does_not_fit_is_refused() -> None:
    x, y = classification()
    with pytest.raises(DTypeError):
        Loss()(model(30, 2)(x), x, y.float())
