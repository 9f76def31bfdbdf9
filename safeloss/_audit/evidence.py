"""What a loss does to the samples of a batch, as data: the verdicts are read off from it."""

from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from safeloss._audit.crossings import Crossings


class Point(NamedTuple):
    """One batch size: what the loss gives, and what the mean (or sum) of its samples' would."""

    batch_size: int
    loss: float
    gradient_norm: float
    healthy_loss: float | None
    healthy_gradient_norm: float | None


class Influence(NamedTuple):
    """How far the gradient of sample i (row) moves when something of sample j (column) changes."""

    full: Tensor
    bent: Tensor  # but for a factor common to all other samples, such as that of a weighted mean
    matters: bool  # the value or a gradient moved
    crossed: bool = False  # sample j moves nothing but index j of an axis of every sample
    softmax: bool = False  # every other sample moves by its share of a softmax over the batch
    tried: int = 0  # changed batches
    refused: int = 0  # ... that the loss did not take

    @property
    def mixes(self) -> bool:
        """Whether a sample moves the gradient of another."""
        return bool(_others(self.full).any())

    @property
    def bends(self) -> bool:
        """Whether it does more than to scale the gradients of all others alike."""
        return bool(_others(self.bent).any())

    @property
    def only_scales(self) -> bool:
        """Whether it scales all alike, itself included: then it has no gradient of its own."""
        mixing = _others(self.full).any(0)
        return bool((mixing & (self.bent.diag() == 0)).any())


class Alone(NamedTuple):
    """Every sample as a batch of its own, and what the batch has to do with them."""

    losses: Tensor
    gradients: Tensor
    parallel: bool  # every gradient in the batch is a multiple of that alone
    adds_up: bool  # ... and the loss is the sum of theirs by the same multiples
    reduction: str | None  # the batch is the "mean", "sum" or "weighted mean" of these


class Evidence(NamedTuple):
    """All that a verdict depends on."""

    input: tuple[int, ...]
    target: tuple[int, ...]
    by_target: Influence
    by_input: Influence
    steady: bool = True  # two calls give the same
    finite: bool = True
    flat: bool = False  # no input gets a gradient
    shared: bool = False  # one target for all samples
    alone: Alone | None = None
    pairs: bool = False  # as good as the mean over every input with every target
    unpaired: bool = False  # which target goes with which input makes no difference
    read: frozenset[int] = frozenset()  # axes along which the loss compares scores
    class_axes: frozenset[int] = frozenset()  # axes that may hold the classes, by the target
    curve: tuple[Point, ...] = ()
    wakes: bool = False  # flat, but other inputs get a gradient
    crossings: Crossings = Crossings()
    unreduced: tuple[int, ...] | None = None

    @property
    def untested(self) -> bool:
        """Whether there were targets to exchange, and the loss took no such batch."""
        return 0 < self.by_target.tried == self.by_target.refused

    @property
    def multiplies(self) -> bool:
        """Whether the numbers of each sample are multiplied by those of all, and added up.

        The gradients show nothing but a factor common to all: the mean of what should have been
        one weight for each. Where nothing is shared but such a factor, any operation counts.
        """
        crossed, changes = self.crossings.of_samples, self.by_target.bends or self.by_input.bends
        return any(c.averaged for c in crossed) or (
            not changes
            and any(c.counts and (self.rescales or c.result == self.unreduced) for c in crossed)
        )

    @property
    def pairs_by_accident(self) -> bool:
        """Whether it is the mean over all pairs because of two shapes, and not by its own doing.

        What compares all with all by a matrix product, a distance of all pairs, or axes that it
        makes for that, does so for targets that are aligned, too.
        """
        crossed = [c for c in self.crossings.of_samples if c.counts]
        return self.pairs and any(not c.meant for c in crossed)

    @property
    def stretches(self) -> bool:
        """Whether samples meet those of others, where nothing in the loss is made for that.

        Predictions that meet targets: then inputs meet no other inputs, or, for a loss of the
        whole batch, which target goes with which input makes no difference. Predictions that meet
        predictions, as the distances of a triplet, one of which has kept its axis: always.
        """
        stumbled = [c for c in self.crossings.of_samples if c.stumbled]
        meets = self.by_target.mixes and (self.unpaired or not self.by_input.bends)
        return self.mixes and any(all(c.learnt) or meets for c in stumbled)

    @property
    def stretches_all(self) -> bool:
        """Whether inputs meet targets that are not as many as they are."""
        pairs = list(zip_longest(self.input[::-1], self.target[::-1], fillvalue=1))
        crossed = any(a == 1 < b for a, b in pairs) and any(b == 1 < a for a, b in pairs)
        return self.shared and crossed and bool(self.crossings.all)

    @property
    def spreads(self) -> bool:
        """Whether one target, which is more than a number, is repeated for all samples."""
        pairs = zip_longest(self.input[::-1], self.target[::-1], fillvalue=1)
        return self.shared and bool(self.target) and all(b in (1, a) for a, b in pairs)

    @property
    def mixes(self) -> bool:
        """Whether samples do more to one another than to scale the gradients of all alike."""
        return (self.by_target.mixes or self.by_input.mixes) and not self.rescales

    @property
    def rescales(self) -> bool:
        """Whether they do only that: the total of a weighted mean, or the root of a mean."""
        if not (self.by_target.mixes or self.by_input.mixes):
            return False
        if self.alone is None or not self.alone.parallel:
            return False
        if self.by_target.bends or self.by_target.only_scales or self.by_input.bends:
            return False
        # With two samples, "all others" is one, and always a multiple of itself.
        return self.input[0] > 2 or self.alone.adds_up

    @property
    def growth(self) -> float | None:
        """The power of the batch size by which the loss outgrows those of its samples."""
        points = [p for p in self.curve if p.batch_size > 1 and p.healthy_loss and p.loss]
        if len(points) < 2:
            return None
        sizes = torch.tensor([float(p.batch_size) for p in points]).log()
        ratios = torch.tensor([abs(p.loss / (p.healthy_loss or 1)) for p in points]).log()
        sizes = sizes - sizes.mean()
        return float((sizes * ratios).sum() / sizes.square().sum())


def _others(influence: Tensor) -> Tensor:
    """Where a sample has influence on another."""
    return influence.clone().fill_diagonal_(0) != 0
