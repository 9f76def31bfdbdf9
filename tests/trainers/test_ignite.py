"""PyTorch-Ignite."""

import pytest

pytest.importorskip("ignite")

# part: trainer
import torch
from ignite.engine import create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss

from safeloss import SafeMSELoss


def engines(model, loss=None):
    loss = loss or SafeMSELoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    trainer = create_supervised_trainer(model, optimizer, loss)
    evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss)})
    return trainer, evaluator, optimizer


# end

from ignite.engine import Events
from ignite.handlers import Checkpoint, DiskSaver
from samples import loader, model, regression, weights
from torch import Tensor, nn

from safeloss import LayoutError


def curve(loss: nn.Module, x: Tensor, y: Tensor, outputs: int = 1) -> list[float]:
    net, losses = model(outputs=outputs), []
    trainer, evaluator, _ = engines(net, loss)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: losses.append(trainer.state.output)
    )
    trainer.run(loader(x, y), max_epochs=2)
    evaluator.run(loader(x, y))
    return [*losses, evaluator.state.metrics["loss"], *weights(net)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), x, y.view(-1, 1))
    assert curve(nn.MSELoss(), x, y) != right, "Ignite trains it without a word"
    assert curve(SafeMSELoss(), x, y) == right


def test_what_does_not_fit_is_refused() -> None:
    x, y = regression()
    with pytest.raises(LayoutError):
        curve(SafeMSELoss(), x, y, outputs=3)


def test_resumed_from_a_checkpoint(tmp_path) -> None:
    x, y = regression()
    whole = curve(SafeMSELoss(), x, y)[17:]
    net, loss = model(), SafeMSELoss()
    trainer, _, optimizer = engines(net, loss)
    kept = {"model": net, "loss": loss, "optimizer": optimizer, "trainer": trainer}
    saver = Checkpoint(kept, DiskSaver(str(tmp_path), create_dir=True))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), saver)
    trainer.run(loader(x, y), max_epochs=1)
    (file,) = tmp_path.glob("*.pt")

    net, loss = model(), SafeMSELoss()
    trainer, _, optimizer = engines(net, loss)
    kept = {"model": net, "loss": loss, "optimizer": optimizer, "trainer": trainer}
    Checkpoint.load_objects(kept, torch.load(file))
    trainer.run(loader(x, y), max_epochs=2)
    assert weights(net) == whole
