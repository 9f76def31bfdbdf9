"""Keras 3 on PyTorch, whose losses take their arguments in the other order."""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
if pytest.importorskip("keras").backend.backend() != "torch":
    pytest.skip("Keras runs on another backend", allow_module_level=True)

# part: adapter
import keras

from safeloss import SafeMSELoss


def keras_loss(loss):
    """`loss(y_true, y_pred)`, as Keras calls it."""
    return lambda y_true, y_pred: loss(y_pred, y_true)


def compiled(model, loss=None):
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss=keras_loss(loss or SafeMSELoss()))
    return model


# end

from typing import Any

import torch
from samples import regression
from torch import Tensor, nn

from safeloss import LayoutError


def model(outputs: int = 1) -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((10,)), layers.Dense(8, activation="relu"), layers.Dense(outputs)]
    )


def curve(loss: nn.Module, x: Tensor, y: Tensor, outputs: int = 1) -> list[float]:
    net = compiled(model(outputs), loss)
    history = net.fit(x.numpy(), y.numpy(), epochs=2, shuffle=False, verbose=0).history["loss"]
    return [*history, *(n for w in net.get_weights() for n in w.flatten().tolist())]


def test_curves_are_those_of_pytorch_and_of_keras() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), x, y.view(-1, 1))
    assert curve(SafeMSELoss(), x, y.view(-1, 1)) == right
    net = model()
    net.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss="mse")
    own = net.fit(x.numpy(), y.numpy(), epochs=2, shuffle=False, verbose=0).history["loss"]
    assert own == pytest.approx(right[:2], rel=1e-5)


def test_targets_without_the_axis_of_the_scores() -> None:
    """Keras adds the axis to targets `[B]` before any loss sees them; between steps it does not."""
    x, y = regression()
    assert curve(SafeMSELoss(), x, y) == curve(nn.MSELoss(), x, y.view(-1, 1))
    scores, safe = model()(x), keras_loss(SafeMSELoss())
    assert torch.equal(safe(y, scores), nn.MSELoss()(scores, y.view(-1, 1)))
    assert not torch.equal(keras_loss(nn.MSELoss())(y, scores), safe(y, scores))


def test_what_does_not_fit_is_refused() -> None:
    x, y = regression()
    with pytest.raises(LayoutError):
        curve(SafeMSELoss(), x, y, outputs=3)


def test_saved_and_resumed(tmp_path) -> None:
    x, y = (data.numpy() for data in regression())
    net = compiled(model())
    net.fit(x, y, epochs=1, shuffle=False, verbose=0)
    net.save_weights(tmp_path / "net.weights.h5")
    other = compiled(model())
    other.fit(x[:32], y[:32], epochs=1, shuffle=False, verbose=0)
    other.load_weights(tmp_path / "net.weights.h5")
    whole = net.fit(x, y, epochs=1, shuffle=False, verbose=0).history["loss"]
    assert other.fit(x, y, epochs=1, shuffle=False, verbose=0).history["loss"] == whole


def test_a_whole_model_is_not_saved_with_the_loss(tmp_path) -> None:
    net = compiled(model())
    with pytest.raises(TypeError, match="get_config"):
        net.save(tmp_path / "net.keras")


def test_weights_of_samples_do_not_count_in_the_mean_of_keras() -> None:
    """As docs/weights.md says: the sum is divided by the number of elements."""
    x, y, weight = torch.randn(3, 8)
    weight = weight.exp()
    found = keras.losses.MeanSquaredError()(y[:, None], x[:, None], sample_weight=weight)
    torch.testing.assert_close(found.cpu(), ((x - y) ** 2 * weight).sum() / 8)
    ours = SafeMSELoss()(x, y, sample_weight=weight, denominator=8)
    torch.testing.assert_close(ours, found.cpu())
