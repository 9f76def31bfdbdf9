"""`safeloss.check` on what trainers hold."""

# part: lightning
import safeloss


def check_lightning(module, batch):
    """A `LightningModule`, by its own `training_step`."""
    return safeloss.check(module, batch, step=lambda module, batch: module.training_step(batch, 0))


# end


# part: transformers
def check_transformers(trainer):
    """The model and a batch of a `transformers.Trainer`: the model computes its loss itself."""
    return safeloss.check(trainer.model, next(iter(trainer.get_train_dataloader())))


# end


# part: skorch
def check_skorch(net, x, y):
    """A net of skorch, with its criterion."""
    net.initialize()
    batch = next(iter(net.get_iterator(net.get_dataset(x, y), training=True)))
    return safeloss.check(net.module_, batch, net.criterion_)


# end


# part: fastai
def check_fastai(learner):
    """The model, a batch and the loss of a `Learner`."""
    return safeloss.check(learner.model, learner.dls.one_batch(), learner.loss_func)


# end

import pytest
import torch
from samples import loader, model, regression
from torch import nn


@pytest.mark.parametrize(("loss", "broken"), [(nn.MSELoss, True), (safeloss.SafeMSELoss, False)])
def test_lightning(loss: type[nn.Module], broken: bool) -> None:
    lightning = pytest.importorskip("lightning")

    class Regression(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = model(), loss()

        def training_step(self, batch, _):
            x, y = batch
            return self.loss(self.model(x), y)

    report = check_lightning(Regression(), next(iter(loader(*regression()))))
    assert report.ok != broken, str(report)


@pytest.mark.parametrize(("loss", "broken"), [(nn.MSELoss, True), (safeloss.SafeMSELoss, False)])
def test_skorch(loss: type[nn.Module], broken: bool) -> None:
    skorch = pytest.importorskip("skorch")
    x, y = regression()
    net = skorch.NeuralNetRegressor(model(), criterion=loss, verbose=0)
    report = check_skorch(net, x.numpy(), y.numpy())
    assert report.ok != broken, str(report)


@pytest.mark.parametrize(("loss", "broken"), [(nn.MSELoss, True), (safeloss.SafeMSELoss, False)])
def test_fastai(loss: type[nn.Module], broken: bool) -> None:
    pytest.importorskip("fastai")
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner

    batches = DataLoader([*zip(*regression())], bs=32)
    learner = Learner(DataLoaders(batches, batches), model(), loss_func=loss())
    report = check_fastai(learner)
    assert report.ok != broken, str(report)


def test_transformers(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=2,
    )
    torch.manual_seed(0)
    words = torch.randint(40, (32, 6))
    rows = [{"input_ids": each, "labels": each[0] % 2} for each in words]
    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config),
        transformers.TrainingArguments(str(tmp_path), report_to=[], use_cpu=True),
        train_dataset=rows,
    )
    report = check_transformers(trainer)
    assert report.ok, str(report)
