"""torchmetrics next to a loss: both read the same scores and labels."""

import pytest

pytest.importorskip("torchmetrics")

# part: metrics
import torch
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from safeloss import SafeBCEWithLogitsLoss, align


def evaluate(model, loader):
    loss, mean = SafeBCEWithLogitsLoss(), MeanMetric()
    metrics = MetricCollection([BinaryAccuracy(), BinaryAUROC()])
    with torch.no_grad():
        for x, y in loader:
            scores = model(x)
            mean.update(loss(scores, y), len(y))
            metrics.update(scores, align(y, like=scores))  # torchmetrics wants equal shapes
    return {"loss": mean.compute(), **metrics.compute()}


# end

from samples import classification, loader, model
from torchmetrics import MeanSquaredError

from safeloss import LayoutError


def test_the_loss_and_the_metrics_of_the_same_batches() -> None:
    x, y = classification()
    found = evaluate(model(30), loader(x, y))
    scores = model(30)(x)
    native = torch.nn.BCEWithLogitsLoss()(scores, y.view(-1, 1).float())
    torch.testing.assert_close(found["loss"], native.detach())
    assert found["BinaryAccuracy"] == ((scores.view(-1) > 0) == y).float().mean()


def test_metrics_refuse_what_the_loss_would_align() -> None:
    with pytest.raises(RuntimeError, match="same shape"):
        MeanSquaredError().update(torch.zeros(8, 1), torch.zeros(8))
    with pytest.raises(LayoutError):
        evaluate(model(30, 3), loader(*classification()))
