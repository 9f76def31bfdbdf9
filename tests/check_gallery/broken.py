"""Thirty programs that do not learn, one fault each, of the kinds that public threads are about."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    yes_or_no,
)

BROKEN, add = gallery()


# Shapes ------------------------------------------------------------------------------------------


@add
def broadcast_mse() -> Training:
    x, y = numbers()
    model = mlp(4, 1)
    return Training(model, batched(x, y), nn.MSELoss(), score=explained(model, x, y))


@add
def broadcast_by_hand() -> Training:
    x, y = numbers()
    model = mlp(4, 1)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (out - y).abs().mean()

    return Training(model, batched(x, y), loss, score=explained(model, x, y))


@add
def broadcast_poisson() -> Training:
    x, y = numbers()
    model, counts = mlp(4, 1), torch.poisson(y.exp())

    def rate(x: Tensor) -> Tensor:
        return model(x).exp()

    return Training(
        model, batched(x, counts), nn.PoissonNLLLoss(), score=explained(rate, x, y.exp())
    )


@add
def broadcast_soft_margin() -> Training:
    x, y = yes_or_no()
    model = mlp(6, 1)
    return Training(
        model, batched(x, y), nn.MultiLabelSoftMarginLoss(), score=chance_of_yes(model, x, y)
    )


@add
def broadcast_of_weights() -> Training:
    """Weights `[batch]` times losses `[batch, 1]`: the weights, 0 for wrong labels, do nothing."""
    x, y = numbers()
    spoilt = torch.arange(96) % 2 == 0
    wrong = torch.where(spoilt, 10 - y, y)
    model = mlp(4, 1)

    def step(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        x, y, weight = batch
        return ((model(x) - y).square() * weight).mean()

    batches = batched(x, wrong[:, None], (~spoilt).float())
    return Training(model, batches, step=step, score=explained(model, x, y))


@add
def wrong_class_axis() -> Training:
    """Scores `[batch, time, classes]`, and as many time steps as classes."""
    x = torch.randn(96, 4, 4)
    labels = x.argmax(-1)
    model = nn.Linear(4, 4)

    def outputs(x: Tensor) -> Tensor:
        return model(x).movedim(-1, 1)

    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(outputs, x, labels)
    )


# Heads -------------------------------------------------------------------------------------------


@add
def double_softmax() -> Training:
    x, labels = classes()
    model = mlp(6, 3, nn.Softmax(dim=1))
    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def sigmoid_before_logits() -> Training:
    x, y = yes_or_no()
    model = mlp(6, 1, nn.Sigmoid(), nn.Flatten(0))
    return Training(model, batched(x, y), nn.BCEWithLogitsLoss(), score=chance_of_yes(model, x, y))


@add
def sigmoid_before_cross_entropy() -> Training:
    x, labels = classes()
    model = mlp(6, 3, nn.Sigmoid())
    return Training(
        model, batched(x, labels), nn.CrossEntropyLoss(), score=chance_of_right(model, x, labels)
    )


@add
def softmax_of_one_output() -> Training:
    x, y = yes_or_no()
    model = mlp(6, 1, nn.Softmax(dim=1))
    score = chance_of_yes(model, x, y, read=lambda chances: chances)
    return Training(model, batched(x, y[:, None]), nn.BCELoss(), score=score)


@add
def cross_entropy_of_one_output() -> Training:
    x, y = yes_or_no()
    model = mlp(6, 1)
    return Training(
        model, batched(x, y[:, None]), nn.CrossEntropyLoss(), score=chance_of_yes(model, x, y)
    )


@add
def softmax_over_the_batch() -> Training:
    x, labels = classes()
    model = mlp(6, 3, nn.LogSoftmax(dim=0))
    score = chance_of_right(model, x, labels, read=torch.exp)
    return Training(model, batched(x, labels), nn.NLLLoss(), score=score)


@add
def raw_scores_into_nll() -> Training:
    x, labels = classes()
    model = mlp(6, 3)
    return Training(
        model,
        batched(x, labels),
        nn.NLLLoss(),
        score=chance_of_right(model, x, labels),
        shows=lambda outcome: outcome.losses[-1] < 0,
    )


@add
def head_too_narrow() -> Training:
    x, labels = classes()
    return Training(mlp(6, 2), batched(x, labels), nn.CrossEntropyLoss())


# Labels ------------------------------------------------------------------------------------------


@add
def labels_from_one() -> Training:
    x, labels = classes()
    return Training(mlp(6, 3), batched(x, labels + 1), nn.CrossEntropyLoss())


@add
def labels_of_minus_one_and_one() -> Training:
    x, y = yes_or_no()
    model = mlp(6, 1)
    return Training(
        model,
        batched(x, 2 * y[:, None] - 1),
        nn.BCEWithLogitsLoss(),
        score=chance_of_yes(model, x, y),
        shows=lambda outcome: outcome.losses[-1] < 0,
    )


@add
def multi_hot_into_cross_entropy() -> Training:
    x = torch.randn(96, 5)
    y = (x > 0).float()
    model = mlp(5, 5)
    return Training(
        model, batched(x, y), nn.CrossEntropyLoss(), score=chance_of_yes(model, x, y), goal=0.9
    )


@add
def nan_in_the_targets() -> Training:
    x, y = numbers()
    y = y.clone()
    y[3] = torch.nan
    return Training(mlp(4, 1), batched(x, y[:, None]), nn.MSELoss())


@add
def labels_all_alike() -> Training:
    """A comparison that is never true makes them."""
    x, labels = classes()
    model = mlp(6, 3)
    return Training(
        model,
        batched(x, (labels > 2).long()),
        nn.CrossEntropyLoss(),
        score=chance_of_right(model, x, labels),
    )


@add
def targets_of_others() -> Training:
    """Inputs and targets were shuffled apart: out of reach of one batch."""
    x, y = numbers()
    model = mlp(4, 1)
    batches = batched(x, y[torch.randperm(96)][:, None])
    return Training(model, batches, nn.MSELoss(), score=explained(model, x, y))


# Gradients ---------------------------------------------------------------------------------------


@add
def all_frozen() -> Training:
    x, labels = classes()
    model = mlp(6, 3).requires_grad_(False)
    return Training(model, batched(x, labels), nn.CrossEntropyLoss())


@add
def optimizer_of_another_model() -> Training:
    x, labels = classes()
    model, before = mlp(6, 3), mlp(6, 3)
    return Training(
        model,
        batched(x, labels),
        nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(before.parameters(), lr=0.02),
        score=chance_of_right(model, x, labels),
    )


@add
def model_copied_after_the_optimizer() -> Training:
    x, y = numbers()
    first = mlp(4, 1)
    optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
    model = copy.deepcopy(first)
    return Training(
        model,
        batched(x, y[:, None]),
        nn.MSELoss(),
        optimizer=optimizer,
        score=explained(model, x, y),
    )


@add
def loss_made_anew_from_its_item() -> Training:
    x, labels = classes()
    model = mlp(6, 3)

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return torch.tensor(F.cross_entropy(scores, labels).item(), requires_grad=True)

    return Training(model, batched(x, labels), loss, score=chance_of_right(model, x, labels))


@add
def loss_of_argmax() -> Training:
    x, labels = classes()

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.argmax(1) != labels).float().mean()

    return Training(mlp(6, 3), batched(x, labels), loss)


@add
def dead_relu_by_scale() -> Training:
    x, y = numbers()
    model = mlp(4, 1)
    nn.init.constant_(model[0].bias, -100.0)
    return Training(model, batched(x, y[:, None]), nn.MSELoss(), score=explained(model, x, y))


@add
def half_precision_overflow() -> Training:
    x, y = numbers()

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return (self.body(x) * 300).half().square().float()

    return Training(Half(), batched(x, 1e6 * y[:, None]), nn.MSELoss(reduction="sum"), steps=40)


@add
def in_place_corruption() -> Training:
    """The data set shrinks at every epoch."""
    x, y = numbers()
    kept = x.clone()

    class Halving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = mlp(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x *= 0.5
            return self.body(x)

    model = Halving()
    return Training(
        model, batched(x, y[:, None]), nn.MSELoss(), score=explained(model.body, kept, y)
    )


# Models ------------------------------------------------------------------------------------------


@add
def lstm_with_the_batch_for_time() -> Training:
    """The label is in the first time step, and `batch_first=True` is missing."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    x = torch.randn(192, 5, 3)
    labels = (x[:, 0].sum(1) > 0).long()
    model = Tagger()
    return Training(
        model,
        batched(x[:96], labels[:96]),
        nn.CrossEntropyLoss(),
        score=chance_of_right(model, x[96:], labels[96:]),
    )


@add
def learning_rate_far_too_high() -> Training:
    x, y = numbers()
    model = mlp(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=50.0)
    return Training(
        model,
        batched(x, y[:, None]),
        nn.MSELoss(),
        optimizer=optimizer,
        score=explained(model, x, y),
    )
