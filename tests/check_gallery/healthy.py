"""Thirty programs that learn: no line of `safeloss.check` may fail on any of them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import safeloss
from check_gallery import (
    Training,
    batched,
    chance_of_right,
    chance_of_yes,
    classes,
    explained,
    gallery,
    mlp,
    numbers,
    trained,
    yes_or_no,
)

HEALTHY, add = gallery()


# Tables ------------------------------------------------------------------------------------------


@add
def regression() -> Training:
    x, y = numbers()
    model = mlp(4, 1)
    return Training(model, batched(x, y[:, None]), nn.MSELoss(), score=explained(model, x, y))


@add
def regression_aligned_by_a_safe_loss() -> Training:
    x, y = numbers()
    model = mlp(4, 1)
    return Training(model, batched(x, y), safeloss.SafeMSELoss(), score=explained(model, x, y))


@add
def regression_on_large_targets() -> Training:
    x, y = numbers()
    y = 200_000 + 80_000 * y
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Training(
        model,
        batched(x, y[:, None]),
        nn.MSELoss(),
        optimizer=optimizer,
        score=explained(model, x, y),
    )


@add
def iris() -> Training:
    from sklearn.datasets import load_iris

    data = load_iris()
    order = torch.randperm(150)
    x = torch.tensor(data.data, dtype=torch.float32)[order]
    labels = torch.tensor(data.target)[order]
    model = mlp(4, 3)
    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def breast_cancer() -> Training:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    x = torch.tensor(data.data, dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    y = torch.tensor(data.target, dtype=torch.float32)[:, None]
    model = mlp(30, 1)
    return Training(
        model, batched(x, y, size=32), nn.BCEWithLogitsLoss(), score=chance_of_yes(model, x, y)
    )


@add
def wine_with_nll() -> Training:
    from sklearn.datasets import load_wine

    data = load_wine()
    order = torch.randperm(178)
    x = torch.tensor(data.data, dtype=torch.float32)[order]
    x, labels = (x - x.mean(0)) / x.std(0), torch.tensor(data.target)[order]
    model = nn.Sequential(mlp(13, 3), nn.LogSoftmax(dim=1))
    return Training(
        model, batched(x, labels), nn.NLLLoss(), score=chance_of_right(model, x, labels)
    )


@add
def probabilities_with_bce() -> Training:
    x, y = yes_or_no()
    model = mlp(6, 1, nn.Sigmoid(), nn.Flatten(0))
    score = chance_of_yes(model, x, y, read=lambda chances: chances)
    return Training(model, batched(x, y), nn.BCELoss(), score=score)


@add
def rare_class_with_weights() -> Training:
    x, _ = classes(number=2)
    y = (torch.arange(96) % 8 == 0).float()[:, None]
    x[:, 0] = 2 * y[:, 0] + 0.3 * torch.randn(96)
    model = mlp(6, 1)
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(7.0))
    return Training(model, batched(x, y, size=32), loss, score=chance_of_yes(model, x, y))


@add
def poisson_counts() -> Training:
    x, y = numbers()
    model, counts = mlp(4, 1), torch.poisson(y.exp())

    def rate(x: Tensor) -> Tensor:
        return model(x).exp()

    return Training(
        model,
        batched(x, counts[:, None]),
        nn.PoissonNLLLoss(),
        score=explained(rate, x, y.exp()),
        goal=0.6,
    )


@add
def table_with_categories() -> Training:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.colours, self.head = nn.Embedding(4, 3), mlp(5, 1)

        def forward(self, numbers: Tensor, colour: Tensor) -> Tensor:
            return self.head(torch.cat([numbers, self.colours(colour)], 1)).squeeze(-1)

    x, colour = torch.randn(96, 2), torch.randint(4, (96,))
    y = x[:, 0] + colour.float()
    model = Table()
    batches = [{"numbers": a, "colour": b, "target": c} for a, b, c in batched(x, colour, y)]

    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.smooth_l1_loss(model(batch["numbers"], batch["colour"]), batch["target"])

    return Training(model, batches, step=step, score=explained(lambda x: model(x, colour), x, y))


# Images ------------------------------------------------------------------------------------------


@add
def digits_with_batch_norm() -> Training:
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.tensor(data.images[:320], dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target[:320])
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
    )
    return Training(
        model,
        batched(x, labels, size=32),
        nn.CrossEntropyLoss(),
        score=chance_of_right(model, x, labels),
    )


@add
def segmentation() -> Training:
    x = torch.randn(48, 1, 6, 6)
    labels = (x[:, 0] > 0).long()
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def dice_by_hand() -> Training:
    x = torch.randn(48, 1, 6, 6)
    y = (x > 0).float()
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        yes = scores.sigmoid()
        both = (yes * y).flatten(1).sum(1)
        return (1 - (2 * both + 1) / (yes.flatten(1).sum(1) + y.flatten(1).sum(1) + 1)).mean()

    return Training(model, batched(x, y), loss, score=chance_of_yes(model, x, y))


@add
def autoencoder() -> Training:
    x = torch.randn(96, 2) @ torch.randn(2, 8)
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
    return Training(
        model,
        list(x.split(16)),
        step=lambda model, batch: F.mse_loss(model(batch), batch),
        goal=0.6,
        steps=300,
    )


# Text and sequences ------------------------------------------------------------------------------


@add
def text_by_bags_of_words() -> Training:
    words = torch.randint(20, (96, 6))
    labels = (words == 3).any(1).long()
    model = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 2))
    return Training(
        model,
        batched(words, labels),
        nn.CrossEntropyLoss(),
        score=chance_of_right(model, words, labels),
    )


@add
def tagging_with_padding() -> Training:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(12, 8)
            self.lstm, self.head = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 3)

        def forward(self, words: Tensor) -> Tensor:
            return self.head(self.lstm(self.embed(words))[0]).transpose(1, 2)

    words = torch.randint(1, 12, (96, 7))
    tags = words % 3
    words[::2, 5:], tags[::2, 5:] = 0, -100
    model = Tagger()
    return Training(
        model,
        batched(words, tags),
        nn.CrossEntropyLoss(),
        score=chance_of_right(model, words[1::2], tags[1::2]),
    )


@add
def transformer_with_dropout() -> Training:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 8)
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = nn.Linear(8, 2)

        def forward(self, words: Tensor) -> Tensor:
            return self.head(self.body(self.embed(words)).mean(1))

    words = torch.randint(10, (96, 5))
    labels = (words[:, 0] > 4).long()
    words[:, 1:] = words[:, :1]
    model = Reader()
    return Training(
        model,
        batched(words, labels),
        nn.CrossEntropyLoss(),
        score=chance_of_right(model, words, labels),
    )


@add
def time_comes_first() -> Training:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.head = nn.GRU(2, 12), nn.Linear(12, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.gru(x)[0][-1]).squeeze(-1)

    x = torch.randn(4, 96, 2)
    y = x[-1, :, 0]
    model = Reader()
    batches = list(zip(x.split(16, dim=1), y.split(16)))
    return Training(
        model, batches, nn.MSELoss(), score=explained(model, x, y), options={"batch_dim": 1}
    )


# Labels of other kinds ---------------------------------------------------------------------------


@add
def several_labels() -> Training:
    x = torch.randn(96, 5)
    y = (x > 0).float()
    model = mlp(5, 5)
    return Training(
        model,
        batched(x, y),
        nn.BCEWithLogitsLoss(),
        score=chance_of_yes(model, x, y),
        goal=0.9,
        steps=240,
    )


@add
def labels_that_are_missing() -> Training:
    """They are -1, and masked out of the unreduced loss."""
    x = torch.randn(96, 5)
    y = (x > 0).float()
    known = torch.rand(96, 5) > 0.3
    model = mlp(5, 5)

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        each = F.binary_cross_entropy_with_logits(model(x), y, reduction="none")
        return each[y >= 0].mean()

    batches = batched(x, torch.where(known, y, -1.0))
    return Training(model, batches, step=step, score=chance_of_yes(model, x, y), steps=240)


@add
def smoothed_labels() -> Training:
    x, labels = classes()
    model = mlp(6, 3)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    return Training(model, batched(x, labels), loss, score=chance_of_right(model, x, labels))


@add
def mixed_up_labels() -> Training:
    x, labels = classes()
    model, hot = mlp(6, 3), F.one_hot(labels, 3).float()
    share = torch.rand(96, 1)
    mixed = share * x + (1 - share) * x.roll(1, 0), share * hot + (1 - share) * hot.roll(1, 0)
    return Training(
        model, batched(*mixed), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def distillation() -> Training:
    x, labels = classes()
    teacher, model = nn.Linear(6, 3), mlp(6, 3)
    trained(Training(teacher, batched(x, labels), nn.CrossEntropyLoss()))

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, labels = batch
        scores = model(x)
        with torch.no_grad():
            wanted = teacher(x).softmax(1)
        near = F.kl_div(scores.log_softmax(1), wanted, reduction="batchmean")
        return near + 0.5 * F.cross_entropy(scores, labels)

    return Training(model, batched(x, labels), step=step, score=chance_of_right(model, x, labels))


# Pairs, triplets and views -----------------------------------------------------------------------


@add
def contrastive_views() -> Training:
    x = torch.randn(96, 6)
    model = mlp(6, 4)

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        one, other = [F.normalize(model(view), dim=1) for view in batch]
        scores = one @ other.T / 0.2
        return F.cross_entropy(scores, torch.arange(len(one)))

    return Training(model, batched(x, x + 0.1 * torch.randn(96, 6)), step=step, goal=0.5)


@add
def triplets() -> Training:
    x, _ = classes()
    model = mlp(6, 4)
    near, far = x[(torch.arange(96) + 3) % 96], x[(torch.arange(96) + 1) % 96]

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.triplet_margin_loss(*[model(part) for part in batch], margin=6.0)

    return Training(model, batched(x, near, far), step=step)


# Two networks, and rewards -----------------------------------------------------------------------


@add
def generator_of_a_gan() -> Training:
    real = torch.randn(96, 2) + 3
    model, critic = mlp(4, 2), mlp(2, 1)
    labels = torch.cat([torch.ones(96), torch.zeros(96)])[:, None]
    data = torch.cat([real, torch.randn(96, 2)])
    order = torch.randperm(192)
    trained(Training(critic, batched(data[order], labels[order]), nn.BCEWithLogitsLoss()))
    critic.requires_grad_(False)

    def step(model: nn.Module, noise: Tensor) -> Tensor:
        verdict = critic(model(noise))
        return F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))

    return Training(model, list(torch.randn(96, 4).split(16)), step=step)


@add
def discriminator_with_a_number_for_target() -> Training:
    model, real = mlp(2, 1), torch.randn(96, 2) + 3

    def step(model: nn.Module, real: Tensor) -> Tensor:
        made = torch.randn_like(real)
        right = (model(real) - 1).square().mean() + model(made).square().mean()
        return right / 2

    return Training(model, list(real.split(16)), step=step)


@add
def critic_of_an_agent() -> Training:
    state = torch.randn(96, 3)
    reward = state.sum(1)
    model = mlp(3, 1)

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        state, reward, following = batch
        with torch.no_grad():
            target = reward + 0.5 * model(following).squeeze(-1)
        return F.smooth_l1_loss(model(state).squeeze(-1), target)

    batches = batched(state, reward, torch.zeros(96, 3))
    return Training(model, batches, step=step)


# Trainings that go on ----------------------------------------------------------------------------


@add
def a_resumed_model() -> Training:
    x, labels = classes()
    model = mlp(6, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    again: Any = {"optimizer": optimizer, "score": chance_of_right(model, x, labels)}
    trained(Training(model, batched(x, labels), nn.CrossEntropyLoss(), **again))
    model.train()
    return Training(model, batched(x, labels), nn.CrossEntropyLoss(), **again)


@add
def dropout_and_weight_decay() -> Training:
    x, labels = classes()
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    return Training(
        model,
        batched(x, labels),
        nn.CrossEntropyLoss(),
        optimizer=optimizer,
        score=chance_of_right(model, x, labels),
    )
