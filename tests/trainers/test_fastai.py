"""fastai, beside its own losses that flatten what they are given."""

import pytest

pytest.importorskip("fastai")

# part: learner
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import SGD

from safeloss import SafeMSELoss


def learner(model, train, valid, loss=None):
    return Learner(DataLoaders(train, valid), model, loss or SafeMSELoss(), opt_func=SGD, lr=0.01)


# end

# part: decoded
from safeloss import SafeCrossEntropyLoss


class Classes(SafeCrossEntropyLoss):
    def activation(self, scores):
        return scores.softmax(1)

    def decodes(self, probabilities):
        return probabilities.argmax(1)


# end

import torch
from fastai.data.load import DataLoader
from fastai.losses import BCEWithLogitsLossFlat, CrossEntropyLossFlat, MSELossFlat
from samples import classification, model, regression, weights
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import safeloss
from safeloss import LayoutError, SafeBCEWithLogitsLoss


class Data(TensorDataset):
    def new_empty(self) -> "Data":
        """What `Learner.export` keeps of the data."""
        return Data(*(x[:0] for x in self.tensors))


def made(loss: nn.Module, x: Tensor, y: Tensor, outputs: int = 1) -> Learner:
    data = DataLoader(Data(x, y), bs=32)
    return learner(model(x.shape[1], outputs), data, data, loss)


def curve(loss: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    learn = made(loss, x, y)
    with learn.no_logging():
        learn.fit(2)
    return [*(value.item() for value in learn.recorder.losses), *weights(learn.model)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), x, y.view(-1, 1))
    assert curve(nn.MSELoss(), x, y) != right
    assert curve(SafeMSELoss(), x, y) == right
    assert curve(MSELossFlat(), x, y) == right, "fastai's own flattens both"


def test_fastai_flattens_what_does_not_belong_together() -> None:
    scores, labels = torch.zeros(4, 6), torch.ones(6, 4)
    BCEWithLogitsLossFlat()(scores, labels)
    with pytest.raises(LayoutError):
        SafeBCEWithLogitsLoss()(scores, labels)


def test_what_does_not_fit_is_refused() -> None:
    x, y = regression()
    learn = made(SafeMSELoss(), x, y, outputs=3)
    with learn.no_logging(), pytest.raises(LayoutError):
        learn.fit(1)


def test_a_learner_is_converted_whole() -> None:
    x, y = regression()
    learn = safeloss.convert(made(nn.MSELoss(), x, y))
    assert type(learn.loss_func) is SafeMSELoss


def test_saved_exported_and_loaded(tmp_path) -> None:
    x, y = regression()
    learn = made(SafeMSELoss(), x, y)
    learn.path = tmp_path
    with learn.no_logging():
        learn.fit(1)
        learn.save("first")
        learn.fit(1)
        expected = weights(learn.model)
        learn.load("first")
        learn.fit(1)
        assert weights(learn.model) == expected
        learn.export(tmp_path / "learner.pkl")
    loaded = torch.load(tmp_path / "learner.pkl", weights_only=False)
    assert type(loaded.loss_func) is SafeMSELoss
    assert torch.equal(loaded.loss_func(loaded.model(x), y), learn.loss_func(learn.model(x), y))


def test_predictions_are_decoded_as_by_the_losses_of_fastai() -> None:
    x, y = classification()

    def predicted(loss: nn.Module) -> list[Tensor]:
        learn = made(loss, x, y, outputs=2)
        with learn.no_logging():
            learn.fit(1)
            predictions, _, decoded = learn.get_preds(with_decoded=True)
        return [torch.as_tensor(predictions), torch.as_tensor(decoded)]

    own, ours = predicted(CrossEntropyLossFlat()), predicted(Classes())
    assert all(map(torch.equal, ours, own))
    scores, decoded = predicted(SafeCrossEntropyLoss())
    assert torch.equal(scores.softmax(1), own[0]), "without an activation: scores"
    assert torch.equal(decoded, scores)
