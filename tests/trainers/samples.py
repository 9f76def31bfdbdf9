"""What is trained in the tests of trainers: a small table of real data, and small models."""

import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def regression() -> tuple[Tensor, Tensor]:
    """Ten measurements of each of 256 patients `[256, 10]`, and one number to predict `[256]`."""
    x, y = load_diabetes(return_X_y=True)
    return torch.tensor(x[:256] * 20).float(), torch.tensor(y[:256] / 100).float()


def classification() -> tuple[Tensor, Tensor]:
    """Thirty measurements of each of 256 tumours `[256, 30]`, and the class of each `[256]`."""
    x, y = load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    return torch.tensor(x[:256]).float(), torch.tensor(y[:256]).long()


def loader(x: Tensor, y: Tensor) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(x, y), batch_size=32)


def model(inputs: int = 10, outputs: int = 1) -> nn.Module:
    """The same at every call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def weights(model: nn.Module) -> list[float]:
    """All parameters of a model, to be compared bit for bit."""
    return [number for p in model.parameters() for number in p.detach().flatten().tolist()]
