"""Accelerate, with its search for a batch size that fits into memory."""

import pytest

pytest.importorskip("accelerate")

# part: loop
import torch
from accelerate import Accelerator
from accelerate.utils import find_executable_batch_size
from torch.utils.data import DataLoader

from safeloss import SafeMSELoss


def train(make_model, data, loss=None, epochs=2):
    accelerator, loss, losses = Accelerator(cpu=True), loss or SafeMSELoss(), []

    @find_executable_batch_size(starting_batch_size=128)
    def attempt(batch_size):
        losses.clear()
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        loader = DataLoader(data, batch_size)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        for _ in range(epochs):
            for x, y in loader:
                value = loss(model(x), y)
                accelerator.backward(value)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(value.item())
        return model

    return attempt(), losses


# end

from typing import Any

from samples import model, regression, weights
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from safeloss import LayoutError


def curve(loss: nn.Module, x: Tensor, y: Tensor, make_model: Any = model) -> list[float]:
    net, losses = train(make_model, TensorDataset(x, y), loss)
    return [*losses, *weights(net)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), x, y.view(-1, 1))
    assert curve(nn.MSELoss(), x, y) != right
    assert curve(SafeMSELoss(), x, y) == right


class Small(nn.Linear):
    """Has no memory for more than 40 samples."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 40:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


class SmallLoss(SafeMSELoss):
    """Has no memory for more than 40 samples: what PyTorch raises inside our call is left as is."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if len(input) > 40:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(input, target)


def test_the_batch_size_finder_goes_on_when_memory_is_out() -> None:
    x, y = regression()
    _, losses = train(lambda: Small(10, 1), TensorDataset(x, y))
    assert len(losses) == 2 * 256 / 32
    _, losses = train(model, TensorDataset(x, y), SmallLoss())
    assert len(losses) == 2 * 256 / 32


def test_the_batch_size_finder_ends_at_a_refusal() -> None:
    x, y = regression()
    tried = []

    def wrong() -> nn.Module:
        tried.append(1)
        return model(outputs=3)

    with pytest.raises(LayoutError):
        curve(SafeMSELoss(), x, y, wrong)
    assert len(tried) == 1, "a smaller batch mends nothing"


def test_saved_and_loaded(tmp_path) -> None:
    x, y = regression()
    accelerator = Accelerator(cpu=True)
    holder = accelerator.prepare(nn.ModuleDict({"model": model(), "loss": SafeMSELoss()}))
    accelerator.save_state(tmp_path)
    other = accelerator.unwrap_model(holder)
    before = other["loss"](other["model"](x), y)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    accelerator.load_state(tmp_path)
    assert torch.equal(other["loss"](other["model"](x), y), before)


def test_resumed_in_the_middle_of_an_epoch(tmp_path) -> None:
    accelerator, data = Accelerator(cpu=True), TensorDataset(*regression())

    def prepared() -> list[Any]:
        holder = nn.ModuleDict({"model": model(), "loss": SafeMSELoss()})
        optimizer = torch.optim.SGD(holder.parameters(), 0.05, momentum=0.9)
        accelerator._models.clear()  # what earlier runs have prepared is not saved with this one
        accelerator._optimizers.clear()
        return list(accelerator.prepare(holder, optimizer))

    def steps(holder: Any, optimizer: Any, batches: Any) -> list[float]:
        losses = []
        for x, y in batches:
            value = holder["loss"](holder["model"](x), y)
            accelerator.backward(value)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(value.item())
        return losses

    batches = list(DataLoader(data, 32))
    whole = prepared()
    expected = [*steps(*whole, batches)[3:], *weights(whole[0])]
    first = prepared()
    steps(*first, batches[:3])
    accelerator.save_state(tmp_path)
    second = prepared()
    accelerator.load_state(tmp_path)
    rest = accelerator.skip_first_batches(DataLoader(data, 32), 3)
    assert [*steps(*second, rest), *weights(second[0])] == expected
