"""skorch."""

import pytest

pytest.importorskip("skorch")

# part: net
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetRegressor
from torch import nn

from safeloss import SafeHuberLoss, SafeMSELoss


class Model(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x):
        return self.layers(x)


def pipeline(loss=SafeMSELoss, **options):
    net = NeuralNetRegressor(Model, criterion=loss, max_epochs=2, lr=0.05, verbose=0, **options)
    return make_pipeline(StandardScaler(), net)


def search(jobs):
    choices = {
        "neuralnetregressor__criterion": [SafeMSELoss, SafeHuberLoss],
        "neuralnetregressor__module__width": [4, 8],
    }
    return GridSearchCV(pipeline(), choices, n_jobs=jobs, cv=2, error_score="raise")


# end

import pickle

import torch
from samples import classification, regression, weights
from sklearn.base import clone

from safeloss import LayoutError, SafeBCEWithLogitsLoss


def fitted(loss, x, y):
    torch.manual_seed(0)
    return pipeline(loss, train_split=None).fit(x.numpy(), y.numpy())


def curve(loss, x, y) -> list[float]:
    net = fitted(loss, x, y)[-1]
    epochs = net.history[:, "batches", :, "train_loss"]
    return [*(loss for epoch in epochs for loss in epoch), *weights(net.module_)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss, x, y.view(-1, 1))
    assert curve(nn.MSELoss, x, y) != right
    assert curve(SafeMSELoss, x, y) == right
    assert curve(SafeMSELoss, x, y.view(-1, 1)) == right


def test_options_by_the_names_of_skorch() -> None:
    x, y = regression()
    net = NeuralNetRegressor(
        Model, criterion=SafeHuberLoss, criterion__delta=0.5, max_epochs=1, verbose=0
    )
    assert net.fit(x.numpy(), y.numpy()).criterion_.delta == 0.5


def test_what_does_not_fit_is_refused() -> None:
    x, y = regression()
    with pytest.raises(LayoutError):
        curve(SafeMSELoss, x, torch.stack([y, y], 1))


def test_skorch_knows_which_loss_wants_a_sigmoid() -> None:
    """By `isinstance`: a subclass of PyTorch's own gets what that gets."""
    x, y = classification()

    def probabilities(loss):
        torch.manual_seed(0)
        net = NeuralNetBinaryClassifier(
            nn.Linear(30, 1), criterion=loss, max_epochs=2, train_split=None, verbose=0
        )
        return net.fit(x, y.float()).predict_proba(x).tolist()

    assert probabilities(SafeBCEWithLogitsLoss) == probabilities(nn.BCEWithLogitsLoss)


@pytest.mark.slow
def test_searched_over_processes() -> None:
    x, y = (data.numpy() for data in regression())
    alone, processes = search(1).fit(x, y), search(2).fit(x, y)
    assert set(alone.best_params_) == set(processes.best_params_)
    assert processes.best_estimator_[-1].criterion in (SafeMSELoss, SafeHuberLoss)


def test_cloned_pickled_saved_and_resumed(tmp_path) -> None:
    x, y = regression()
    net = fitted(SafeMSELoss, x, y)[-1]
    assert type(net.criterion_) is SafeMSELoss
    assert clone(net).criterion is SafeMSELoss
    again = pickle.loads(pickle.dumps(net))
    net.save_params(tmp_path / "params.pt", f_criterion=tmp_path / "loss.pt")
    loaded = pipeline(train_split=None)[-1].initialize()
    loaded.load_params(tmp_path / "params.pt", f_criterion=tmp_path / "loss.pt")
    for other in (again, loaded):
        other.partial_fit(x, y)
    assert again.predict(x).tolist() == loaded.predict(x).tolist()


def test_resumed_from_a_checkpoint(tmp_path) -> None:
    x, y = (data.numpy() for data in regression())
    files = {f"f_{name}": str(tmp_path / name) for name in ("params", "optimizer", "criterion")}
    files["f_history"] = str(tmp_path / "history.json")

    def made():
        torch.manual_seed(0)
        options = {"train_split": None, "optimizer__momentum": 0.9}
        return pipeline(**options)[-1].initialize()

    def curve(net) -> list[float]:
        epochs = net.history[:, "batches", :, "train_loss"]
        return [*(loss for epoch in epochs for loss in epoch), *weights(net.module_)]

    whole = curve(made().partial_fit(x, y, epochs=4))
    first = made().partial_fit(x, y, epochs=2)
    first.save_params(**files)
    second = made()
    second.load_params(**files)
    assert type(second.criterion_) is SafeMSELoss
    assert curve(second.partial_fit(x, y, epochs=2)) == whole
