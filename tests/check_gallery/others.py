"""Healthy programs of other kinds, written after the thresholds were chosen."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from check_gallery import (
    Training,
    batched,
    chance_of_right,
    classes,
    explained,
    gallery,
    mlp,
    numbers,
)

OTHERS, add = gallery()


@add
def variational_autoencoder() -> Training:
    class Vae(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = mlp(8, 4), mlp(2, 8)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mean, log_var = self.encode(x).chunk(2, dim=1)
            code = mean + torch.randn_like(mean) * (log_var / 2).exp()
            return self.decode(code), mean, log_var

    x = 3 * torch.randn(96, 2) @ torch.randn(2, 8)

    def step(model: nn.Module, x: Tensor) -> Tensor:
        made, mean, log_var = model(x)
        near = F.mse_loss(made, x, reduction="sum") / len(x)
        return near - 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1).mean()

    return Training(Vae(), list(x.split(16)), step=step, goal=0.5)


@add
def speech_with_ctc() -> Training:
    x = torch.randn(48, 8, 4)
    labels = torch.randint(1, 5, (48, 2))
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 40))

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, labels = batch
        scores = model(x).view(len(x), 8, 5).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(x),), 8), torch.full((len(x),), 2)
        return F.ctc_loss(scores, labels, *lengths, zero_infinity=True)

    return Training(model, batched(x, labels), step=step, goal=0.5)


@add
def policy_gradient() -> Training:
    state = torch.randn(96, 3)
    actions = torch.randint(2, (96,))
    reward = torch.where(actions == (state[:, 0] > 0).long(), 1.0, -1.0)
    model = mlp(3, 2)

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        state, actions, reward = batch
        chosen = model(state).log_softmax(1).gather(1, actions[:, None]).squeeze(1)
        advantage = (reward - reward.mean()) / (reward.std() + 1e-6)
        return -(chosen * advantage).mean()

    right = (state[:, 0] > 0).long()
    return Training(
        model,
        batched(state, actions, reward),
        step=step,
        score=chance_of_right(model, state, right),
        steps=60,
    )


@add
def two_tasks_of_one_model() -> Training:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.kind, self.size = mlp(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            hidden = self.body(x).relu()
            return {"kind": self.kind(hidden), "size": self.size(hidden).squeeze(-1)}

    x, labels = classes()
    model = Both()

    def loss(outputs: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
        kind = F.cross_entropy(outputs["kind"], target["kind"])
        return kind + 0.3 * F.mse_loss(outputs["size"], target["size"])

    batches = [(a, {"kind": b, "size": c}) for a, b, c in batched(x, labels, x[:, 0])]
    return Training(model, batches, loss)


@add
def frozen_backbone() -> Training:
    x, labels = classes()
    backbone = mlp(6, 16).requires_grad_(False).eval()
    model = nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(16, 3)))
    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.1)
    return Training(
        model,
        batched(x, labels),
        nn.CrossEntropyLoss(),
        optimizer=optimizer,
        score=chance_of_right(model, x, labels),
    )


@add
def checkpointed_activations() -> Training:
    class Sparing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = mlp(6, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.body, x, use_reentrant=False))

    x, labels = classes()
    model = Sparing()
    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def language_model_with_tied_embeddings() -> Training:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 12)
            self.lstm = nn.LSTM(12, 12, batch_first=True)
            self.head = nn.Linear(12, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, words: Tensor) -> Tensor:
            return self.head(self.lstm(self.embed(words))[0])

    words = (torch.arange(6) + torch.randint(9, (96, 1))) % 9

    def step(model: nn.Module, words: Tensor) -> Tensor:
        scores = model(words[:, :-1])
        return F.cross_entropy(scores.reshape(-1, 9), words[:, 1:].reshape(-1))

    return Training(Language(), list(words.split(16)), step=step)


@add
def loss_inside_of_the_model() -> Training:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(6, 3)

        def forward(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            logits = self.body(inputs)
            if labels is None:
                return {"logits": logits}
            return {"loss": nn.CrossEntropyLoss()(logits, labels), "logits": logits}

    x, labels = classes()
    return Training(Reader(), [{"inputs": a, "labels": b} for a, b in batched(x, labels)])


@add
def wrapped_model() -> Training:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Any, **named: Any) -> Any:
            return self.module(*inputs, **named)

    x, y = numbers()
    model = Wrapper(mlp(4, 1))
    loss = lambda out, y: (out.squeeze(-1) - y).pow(2).mean()  # noqa: E731  # as users write it
    return Training(model, batched(x, y), loss, score=explained(model, x, y))


@add
def weight_and_spectral_norm() -> Training:
    x, labels = classes()
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 16)),
        nn.ReLU(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def batch_norm_of_two_samples() -> Training:
    x, y = numbers()
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    return Training(
        model,
        batched(x, y[:, None], size=2),
        nn.MSELoss(),
        goal=0.3,
        steps=400,
        score=explained(model, x, y),
    )


@add
def bfloat16() -> Training:
    x, labels = classes()
    model = mlp(6, 3).bfloat16()
    batches = batched(x.bfloat16(), labels)
    return Training(
        model, batches, nn.CrossEntropyLoss(), score=chance_of_right(model, x.bfloat16(), labels)
    )


@add
def autocast() -> Training:
    x, labels = classes()
    model = mlp(6, 3)

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, labels = batch
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.cross_entropy(model(x), labels)

    return Training(model, batched(x, labels), step=step, score=chance_of_right(model, x, labels))


@add
def supervised_contrast() -> Training:
    x, labels = classes()
    model = mlp(6, 4)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        unit = F.normalize(outputs, dim=1)
        scores = (unit @ unit.T / 0.5).masked_fill(torch.eye(len(unit), dtype=torch.bool), -1e9)
        alike = (labels[:, None] == labels[None]).float() - torch.eye(len(unit))
        chances = scores.log_softmax(1)
        return -((chances * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()

    return Training(model, batched(x, labels), loss, goal=0.1)  # the least is not 0


@add
def graph_convolution() -> Training:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)

        def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
            near = torch.eye(len(nodes))
            near[edges[0], edges[1]] = 1.0
            near = near / near.sum(1, keepdim=True)
            return self.last((near @ self.first(nodes)).relu())

    class Data(NamedTuple):
        nodes: Tensor
        edges: Tensor
        y: Tensor

    x, labels = classes(48)
    same = torch.arange(48)
    edges = torch.stack([same, (same + 3) % 48])

    def step(model: nn.Module, data: Data) -> Tensor:
        return F.cross_entropy(model(data.nodes, data.edges), data.y)

    return Training(Graph(), [Data(x, edges, labels)], step=step)


@add
def heteroscedastic_regression() -> Training:
    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(4, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, spread = self.body(x).chunk(2, dim=1)
            return mean, F.softplus(spread) + 1e-3

    @dataclass
    class Rows:
        x: Tensor
        target: Tensor

    x, y = numbers()
    model = Spread()

    def step(model: nn.Module, rows: Rows) -> Tensor:
        mean, var = model(rows.x)
        return F.gaussian_nll_loss(mean, rows.target, var)

    batches = [Rows(*pair) for pair in batched(x, y[:, None])]
    return Training(model, batches, step=step, score=explained(lambda x: model(x)[0], x, y))


@add
def quantiles() -> Training:
    x, y = numbers()
    model, levels = mlp(4, 3), torch.tensor([0.1, 0.5, 0.9])

    def loss(out: Tensor, y: Tensor) -> Tensor:
        off = y[:, None] - out
        return torch.maximum(levels * off, (levels - 1) * off).mean()

    return Training(model, batched(x, y), loss, score=explained(lambda x: model(x)[:, 1], x, y))


@add
def listwise_ranking() -> Training:
    """Each sample is a list of documents, whose scores compete."""
    x = torch.randn(96, 5, 3)
    relevance = (3 * x.sum(-1)).softmax(1)
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(1))
    return Training(
        model,
        batched(x, relevance),
        lambda scores, wanted: -(wanted * scores.log_softmax(1)).sum(1).mean(),
        goal=0.3,
    )


@add
def siamese_pairs() -> Training:
    x, labels = classes()
    model = mlp(6, 4)
    other = torch.randperm(96)
    alike = torch.where(labels == labels[other], 1.0, -1.0)

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        one, other, alike = batch
        return F.cosine_embedding_loss(model(one), model(other), alike)

    return Training(model, batched(x, x[other], alike), step=step)
