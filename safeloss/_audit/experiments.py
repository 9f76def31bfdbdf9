"""The experiments that find out what a loss does to the samples of a batch."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from safeloss._audit.crossings import crossings
from safeloss._audit.evidence import Alone, Evidence, Influence, Point
from safeloss._audit.probing import Outcome, Probe, Samples, tolerance

# Samples of which every input is tried with every target, so that calls grow with the square.
_MOST_PAIRED = 8


class _Trial(NamedTuple):
    """A loss on the batch as given, with which everything else is compared."""

    probe: Probe
    samples: Samples
    base: Outcome

    def on(self, samples: Samples) -> Outcome | None:
        """The outcome on another batch, unless the loss does not take it."""
        with contextlib.suppress(Exception):  # whatever it raises: nobody asked for this batch
            return self.probe(samples)
        return None

    def limit(self, *gradients: Tensor) -> float:
        """The largest change that may be rounding, for gradients of this size."""
        largest = max(float(_norms_by_sample(g).max()) for g in (self.base.gradient, *gradients))
        return tolerance(self.base) * largest

    def same(self, one: Outcome) -> bool:
        """Whether an outcome equals that of the batch as given, up to rounding."""
        limit = self.limit(one.gradient)
        rounding = limit + tolerance(self.base) * float(self.base.value.abs())
        moved = _norms_by_sample(one.gradient - self.base.gradient)
        return (
            float((one.value - self.base.value).abs()) <= rounding and float(moved.max()) <= limit
        )


def calls(samples: Samples) -> int:
    """About how many calls of the loss it takes to measure it."""
    return len(samples.with_each_target()) * (3 * samples.size + 20)


def measure(probe: Probe, samples: Samples) -> Evidence:
    """Try the loss on the batch, on batches with one sample changed, and on parts of it."""
    trial = _first_trial(probe, samples)
    samples, base = trial.samples, trial.base
    shapes = (tuple(samples.input.shape), tuple(samples.target.shape))
    if not (probe.steady and base.finite):
        nothing = torch.full((samples.size, samples.size), torch.nan)
        unknown = Influence(nothing, nothing, False)
        return Evidence(
            *shapes,
            unknown,
            unknown,
            steady=probe.steady,
            finite=base.finite,
            crossings=crossings(probe, samples),
            unreduced=probe.unreduced_shape(),
        )
    by_target = _influence(trial, _with_other_targets(samples))
    by_input = _influence(trial, _with_moved_inputs(samples))
    alone = _single_samples(trial)
    flat = not (base.gradient.any() or by_target.full.any() or by_input.full.any())
    return Evidence(
        *shapes,
        by_target,
        by_input,
        flat=flat,
        wakes=flat and _wakes(trial),
        shared=samples.axis is None and _shared_target_matters(trial),
        alone=alone,
        pairs=by_target.mixes and _scores_all_pairs(trial),
        unpaired=by_target.mixes and _is_unpaired(trial),
        read=frozenset(_compared_axes(trial)),
        class_axes=class_axes(samples),
        curve=tuple(_curve(trial, alone)),
        crossings=crossings(probe, samples),
        unreduced=probe.unreduced_shape(),
    )


def _wakes(trial: _Trial) -> bool:
    """Whether other inputs get a gradient: then the loss is flat only here, as within a margin."""
    x, samples = trial.samples.input, trial.samples
    others = (-x, x.roll(1, 0), x.flip(0) - x, x - x.mean(), torch.zeros_like(x), 10 * x)
    outcomes = [trial.on(samples._replace(input=other)) for other in others]
    return any(o is not None and o.finite and bool(o.gradient.any()) for o in outcomes)


def _first_trial(probe: Probe, samples: Samples) -> _Trial:
    """The trial on the batch as given; if its gradient is 0, with the targets moved on by one."""
    trial = _Trial(probe, samples, probe(samples))
    if not trial.base.gradient.any():  # say, of targets that equal their inputs
        rolled = _rolled(samples)
        other = trial.on(rolled)
        if other is not None and other.finite and other.gradient.any():
            return _Trial(probe, rolled, other)
    return trial


def _rolled(samples: Samples) -> Samples:
    rows = list(range(samples.size))
    return samples.take(rows, rows[1:] + rows[:1])


def _with_other_targets(samples: Samples) -> Iterator[tuple[int, Samples]]:
    """Sample j with the target of another sample, which is always a legal one."""
    if samples.axis is None:
        return
    targets, rows = samples.targets(), list(range(samples.size))
    for j in rows:
        k = _partner(targets, j)
        if k is not None:
            yield j, samples.take(rows, [*rows[:j], k, *rows[j + 1 :]])


def _with_moved_inputs(samples: Samples) -> Iterator[tuple[int, Samples]]:
    """Sample j with its input halfway to that of another: probabilities remain probabilities."""
    for j in range(samples.size):
        k = _partner(samples.input, j)
        if k is not None:
            moved = samples.input.clone()
            moved[j] = (moved[j] + moved[k]) / 2
            yield j, samples._replace(input=moved)


def _partner(rows: Tensor, j: int) -> int | None:
    """The next row that differs from row j."""
    n = len(rows)
    return next((k % n for k in range(j + 1, j + n) if not rows[k % n].equal(rows[j])), None)


def other_targets(samples: Samples) -> Tensor:
    """Valid targets that differ from those of the batch."""
    target = samples.target
    if target.dim() and not (rolled := target.roll(1, -1)).equal(target):
        return rolled
    if target.dtype == torch.bool:
        return ~target
    if target.is_floating_point():
        return torch.where(target == 0.5, 0.25, 1 - target)
    if bool((target.abs() == 1).all()):
        return -target if bool((target < 0).any()) else target - 1
    # An index past the classes is an exception on a CPU, and the end of the process on a GPU.
    one_class = target.is_cuda and any(samples.input.shape[a] == 1 for a in class_axes(samples))
    return torch.where(target > 0, target - 1, target if one_class else (target == 0) + target)


def _influence(trial: _Trial, changes: Iterator[tuple[int, Samples]]) -> Influence:
    """What every change does to the gradient of every sample."""
    base, n = trial.base.gradient, trial.samples.size
    full, bent = (base.new_zeros(n, n, dtype=torch.float64) for _ in range(2))
    share = trial.samples.input.to(base.dtype).softmax(0)
    crossed = {axis for axis in range(1, base.dim()) if base.shape[axis] == n}
    matters, proportional, tried, refused, limit = False, n > 2, 0, 0, trial.limit()
    for j, changed in changes:
        outcome, tried = trial.on(changed), tried + 1
        if outcome is None or not outcome.finite:
            refused += 1
            continue
        moved = outcome.gradient - base
        others = torch.arange(n, device=base.device) != j
        full[:, j] = _norms_by_sample(moved)
        bent[:, j] = _norms_by_sample(
            outcome.gradient - _factor(base, outcome.gradient, others) * base
        )
        limit = max(limit, trial.limit(outcome.gradient))
        matters = matters or not trial.same(outcome)
        index = torch.tensor(j, device=base.device)
        crossed = {
            a for a in crossed if _norms_by_sample(moved.index_fill(a, index, 0)).max() <= limit
        }
        proportional = proportional and _is_share(moved[others], share[others], limit)
    for matrix in (full, bent):
        matrix[matrix <= limit] = 0
    return Influence(full.cpu(), bent.cpu(), matters, bool(crossed), proportional, tried, refused)


def _factor(base: Tensor, changed: Tensor, rows: Tensor) -> Tensor:
    """By how much the gradients of some samples were scaled, as near as one factor can say."""
    square = base[rows].square().sum()
    product = (changed[rows] * base[rows]).sum()
    return torch.where(square > 0, product / square, torch.ones_like(square))


def _is_share(moved: Tensor, share: Tensor, limit: float) -> bool:
    """Whether samples moved in proportion to their share, each column by a factor of its own."""
    factor = moved.sum(0, keepdim=True) / share.sum(0, keepdim=True)
    return float((moved - factor * share).abs().max()) <= limit


def _single_samples(trial: _Trial) -> Alone | None:
    """The loss of each sample alone, and how the batch reduces them; None if one is refused."""
    n, base = trial.samples.size, trial.base
    outcomes = [trial.on(trial.samples.take([i])) for i in range(n)]
    taken = [outcome for outcome in outcomes if outcome is not None]
    if len(taken) < n:
        return None
    # A sample whose every target is ignored is NaN alone, and nothing beside others.
    losses = torch.stack([outcome.value for outcome in taken]).nan_to_num(0, 0, 0)
    gradients = torch.cat([outcome.gradient for outcome in taken]).nan_to_num(0, 0, 0)
    rows, together = gradients.reshape(n, -1), base.gradient.reshape(n, -1)
    squares = rows.square().sum(1)
    shares = torch.where(squares > 0, (rows * together).sum(1) / squares, 0)
    limit, rounding = trial.limit(gradients), tolerance(base)
    most = max(float(base.value.abs()), float(losses.abs().max()))

    def fits(weights: Tensor) -> bool:
        return float(_norms_by_sample(together - weights[:, None] * rows).max()) <= limit

    def adds_up(weights: Tensor) -> bool:
        rest = (weights * losses).sum() - base.value
        return fits(weights) and float(rest.abs()) <= rounding * most

    parallel = fits(shares) and bool((shares >= -rounding).all())
    total = float(shares.sum())  # less than 1 where a sample that has no gradient has a share
    whole = total <= 1 + rounding if bool((squares == 0).any()) else abs(total - 1) <= rounding
    reduction = None
    if adds_up(torch.full_like(losses, 1 / n)):
        reduction = "mean"
    elif adds_up(torch.ones_like(losses)):
        reduction = "sum"
    elif parallel and whole and adds_up(shares):
        reduction = "weighted mean"
    return Alone(losses, gradients, parallel, parallel and adds_up(shares), reduction)


def _scores_all_pairs(trial: _Trial) -> bool:
    """Whether the gradients are those of the mean over every input with every target."""
    m = min(trial.samples.size, _MOST_PAIRED)
    part = trial.on(trial.samples.take(list(range(m))))
    if part is None:
        return False
    pairs = torch.zeros_like(part.gradient)
    for i in range(m):
        for j in range(m):
            outcome = trial.on(trial.samples.take([i], [j]))
            if outcome is None:
                return False
            pairs[i] += outcome.gradient[0]
    rows = torch.ones(m, dtype=torch.bool, device=pairs.device)
    factor = _factor(pairs, part.gradient, rows)
    left = float(_norms_by_sample(part.gradient - factor * pairs).max())
    return bool(pairs.any()) and float(factor) > 0 and left <= trial.limit(part.gradient)


def _shared_target_matters(trial: _Trial) -> bool:
    """Whether a change of the one target for all samples changes the loss."""
    samples = trial.samples
    others = (other_targets(samples), _filled_with_first(samples.target))
    outcomes = [trial.on(samples._replace(target=other)) for other in others]
    return any(outcome is not None and not trial.same(outcome) for outcome in outcomes)


def _filled_with_first(target: Tensor) -> Tensor:
    """A target whose numbers all equal its first, so that its mean changes, too."""
    return target.flatten()[:1].expand(target.numel()).view_as(target).clone()


def _is_unpaired(trial: _Trial) -> bool:
    """Whether the loss is the same when every input gets the target of another sample."""
    rolled = trial.on(_rolled(trial.samples))
    return rolled is not None and trial.same(rolled)


def _compared_axes(trial: _Trial) -> set[int]:
    """The axes along which the loss compares scores, so that a shift along them changes nothing;
    else the one along which an index picks."""
    scores = trial.samples.input
    axes = set()
    for axis, size in enumerate(scores.shape):
        if size > 1:
            shift = _shift(scores, axis)
            outcome = trial.on(trial.samples._replace(input=scores + shift))
            if outcome is not None and bool((shift != 0).any()) and trial.same(outcome):
                axes.add(axis)
    return axes or _picked_axes(trial)


def _shift(scores: Tensor, axis: int) -> Tensor:
    """One random number for all along an axis; probabilities remain probabilities."""
    lowest, highest = scores.amin(axis, keepdim=True), scores.amax(axis, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    if bool((scores >= 0).all()) and bool((scores <= 1).all()):
        part = torch.rand(lowest.shape, generator=generator, device="cpu").to(scores)
        return part * (1 - highest) - (1 - part) * lowest
    return torch.randn(lowest.shape, generator=generator, device="cpu").to(scores)


def _picked_axes(trial: _Trial) -> set[int]:
    """The axis along which another class index picks another score."""
    samples = trial.samples
    if samples.target.is_floating_point() or not class_axes(samples):
        return set()
    target, others = samples.target.flatten(), other_targets(samples).flatten()
    place = (target != others).nonzero()[:1]
    target = target.index_copy(0, place.flatten(), others[place].flatten())
    outcome = trial.on(samples._replace(target=target.view(samples.target.shape)))
    if outcome is None:
        return set()
    moved = (outcome.gradient - trial.base.gradient).nonzero()
    axes = {axis for axis, index in enumerate(moved.unbind(1)) if len(index.unique()) > 1}
    return axes if len(axes) == 1 else set()


def class_axes(samples: Samples) -> frozenset[int]:
    """The axes that indices leave out, or along which probabilities sum to 1."""
    shape, target = samples.input.shape, samples.target
    if not target.is_floating_point():
        left_out = [(*shape[:axis], *shape[axis + 1 :]) for axis in range(len(shape))]
        return frozenset(a for a, left in enumerate(left_out) if a and left == target.shape)
    if target.shape != shape or bool((target < 0).any()):
        return frozenset()
    sums = [target.sum(axis) for axis in range(len(shape))]
    whole = [torch.allclose(total, torch.ones_like(total), atol=1e-3) for total in sums]
    return frozenset(axis for axis, is_whole in enumerate(whole) if axis and is_whole)


def _curve(trial: _Trial, alone: Alone | None) -> Iterator[Point]:
    """The loss on the first 1, 2, 4, ... samples, and on all."""
    n = trial.samples.size
    for size in [*(2**k for k in range(n.bit_length()) if 2**k < n), n]:
        outcome = trial.on(trial.samples.take(list(range(size))))
        if outcome is None:
            continue
        loss, norm = float(outcome.value), float(outcome.gradient.norm())
        if alone is None or not alone.gradients.any():
            yield Point(size, loss, norm, None, None)
        else:
            divisor = 1 if alone.reduction == "sum" else size
            total, length = alone.losses[:size].sum(), alone.gradients[:size].norm()
            yield Point(size, loss, norm, float(total) / divisor, float(length) / divisor)


def _norms_by_sample(gradients: Tensor) -> Tensor:
    """The norm of each sample's gradient, in double precision."""
    return gradients.reshape(len(gradients), -1).norm(dim=1, dtype=torch.float64)
