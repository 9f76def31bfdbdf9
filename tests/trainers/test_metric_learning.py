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
from samples import classification, model

import safeloss
from safeloss import DTypeError


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
