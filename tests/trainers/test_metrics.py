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

from samples import classification, loader, model, regression, weights
from torch import Tensor, nn
from torchmetrics import MeanSquaredError

from safeloss import LayoutError, SafeMSELoss


def curve(loss: nn.Module, metric: MeanSquaredError, x: Tensor, y: Tensor) -> list[float]:
    """Losses and metrics of each step, of the epoch, and the trained weights."""
    net, mean, seen = model(), MeanMetric(), []
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for inputs, targets in loader(x, y):
        scores = net(inputs)
        value = loss(scores, targets)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seen += [mean(value).item(), metric(scores, align(targets, like=scores)).item()]
    return [*seen, mean.compute().item(), metric.compute().item(), *weights(net)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), MeanSquaredError(), x, y.view(-1, 1))
    assert curve(nn.MSELoss(), MeanSquaredError(), x, y) != right
    assert curve(SafeMSELoss(), MeanSquaredError(), x, y) == right
    assert curve(SafeMSELoss(), MeanSquaredError(), x, y.view(-1, 1)) == right


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
