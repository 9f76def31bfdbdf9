"""PyTorch's own training loop, with each of the things that people put into it."""

# part: loop
import torch
from torch import nn

from safeloss import SafeCrossEntropyLoss


def train(model, loss, loader, optimizer, epochs=2):
    losses = []
    for _ in range(epochs):
        for x, y in loader:
            with torch.autocast("cpu", torch.bfloat16):
                value = loss(model(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return losses


# end


# part: accumulation
def accumulated_step(model, loss, optimizer, batches):
    """One step over several small batches: the mean over all their tokens."""
    tokens = sum((tags != -100).sum() for _, tags in batches)
    for words, tags in batches:
        loss(model(words), tags, denominator=tokens).backward()
    optimizer.step()
    optimizer.zero_grad()


# end

# part: checkpointing
from torch.utils.checkpoint import checkpoint


def forward(model, loss, x, y):
    """Neither the model nor the loss keeps what backward needs: both are computed again."""
    return checkpoint(lambda x, y: loss(model(x), y), x, y, use_reentrant=False)


# end

import copy

import pytest
from samples import classification, loader, model, regression, weights

import safeloss
from safeloss import LayoutError, SafeMSELoss


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)


def curve(loss: nn.Module, x: torch.Tensor, y: torch.Tensor, outputs: int = 1) -> list[float]:
    net = model(x.shape[1], outputs)
    return [*train(net, loss, loader(x, y), sgd(net)), *weights(net)]


def test_curves_are_those_of_pytorch() -> None:
    x, y = classification()
    assert curve(SafeCrossEntropyLoss(), x, y, 2) == curve(nn.CrossEntropyLoss(), x, y, 2)


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), x, y.view(-1, 1))
    assert curve(nn.MSELoss(), x, y) != right
    assert curve(SafeMSELoss(), x, y) == right


def test_what_does_not_fit_is_refused() -> None:
    x, y = regression()
    with pytest.raises(LayoutError):
        curve(SafeMSELoss(), x, y, outputs=3)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.tags = nn.Embedding(50, 8), nn.Linear(8, 5)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.tags(self.words(words))


def sentences() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of different length, padded with -100; the last one is only padding."""
    torch.manual_seed(1)
    batches = []
    for length in (3, 12, 7, 4):
        words, tags = torch.randint(50, (4, length)), torch.randint(5, (4, length))
        tags[torch.rand(4, length) < length / 20] = -100
        batches.append((words, tags))
    batches[-1][1].fill_(-100)
    return batches


@pytest.mark.parametrize("empty", ["warn", "raise"])
def test_accumulated_is_one_large_batch(empty) -> None:
    batches = sentences()
    loss = SafeCrossEntropyLoss(class_dim=-1, empty=empty)
    small, large = Tagger(), Tagger()
    accumulated_step(small, loss, sgd(small), batches)
    scores = torch.cat([large(words).flatten(0, 1) for words, _ in batches])
    tags = torch.cat([tags.flatten() for _, tags in batches])
    nn.CrossEntropyLoss()(scores, tags).backward()
    sgd(large).step()
    torch.testing.assert_close(small.state_dict(), large.state_dict())


def test_checkpointing_changes_no_gradient() -> None:
    x, y = classification()
    plain, computed_again = model(30, 2), model(30, 2)
    SafeCrossEntropyLoss()(plain(x), y).backward()
    forward(computed_again, SafeCrossEntropyLoss(), x, y).backward()
    for one, other in zip(plain.parameters(), computed_again.parameters()):
        assert torch.equal(one.grad, other.grad)


def test_saved_and_resumed(tmp_path) -> None:
    x, y = regression()
    through, first, loss = model(), model(), SafeMSELoss()
    optimizer = sgd(through)
    whole = train(through, loss, loader(x, y), optimizer, epochs=2)
    optimizer = sgd(first)
    train(first, loss, loader(x, y), optimizer, epochs=1)
    saved = {"model": first.state_dict(), "optimizer": optimizer.state_dict(), "loss": loss}
    torch.save(saved, tmp_path / "checkpoint.pt")
    with torch.serialization.safe_globals([SafeMSELoss]):
        saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    second = model()
    second.load_state_dict(saved["model"])
    optimizer = sgd(second)
    optimizer.load_state_dict(saved["optimizer"])
    rest = train(second, saved["loss"], loader(x, y), optimizer, epochs=1)
    assert rest == whole[len(whole) // 2 :]
    assert weights(second) == weights(through)


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.loss = model(), nn.MSELoss()

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.model(x), y)


def test_exported_and_scripted_with_the_model() -> None:
    x, y = regression()
    native, safe = WithLoss(), safeloss.convert(copy.deepcopy(WithLoss()))
    expected = native(x, y.view(-1, 1))
    assert torch.equal(torch.export.export(safe, (x, y)).module()(x, y), expected)
    assert torch.equal(torch.jit.script(safe)(x, y.view(-1, 1)), expected)
