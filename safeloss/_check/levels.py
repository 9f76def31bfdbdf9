"""What a known loss comes to for answers that do not look at the input: chance, and a constant."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._check.recorder import LossCall
from safeloss._contract.contract import Decision
from safeloss._runtime.accepted import Accepted

_EPS = 1e-7  # of probabilities, so that their logarithms are finite


class Levels(NamedTuple):
    """The loss of a call as it is, and of answers that are the same for every sample."""

    now: float
    constant: float  # of the best answer that is the same for all
    chance: float | None  # of an answer that prefers nothing; None where there is none, or a mean
    words: str  # what chance is called: "ln 3"
    targets: str = ""  # mean and standard deviation, of a regression

    @property
    def without_input(self) -> float:
        """The larger of the two: what costs no look at the input."""
        return self.constant if self.chance is None else max(self.chance, self.constant)


def levels(call: LossCall) -> Levels | None:
    """Those of a call that our signature accepts, for the losses whose best constant is known."""
    signature = call.signature
    compute = _KNOWN.get(signature.name)
    if compute is None or call.result is None:
        return None
    understood = signature.call(None, call.named)
    decision = signature.decide(understood)
    if not isinstance(decision, Decision):
        return None
    named = Accepted(signature, None, call.named, understood, *decision).context.arguments
    doubled = {
        key: value.detach().double()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for key, value in named.items()
    }
    with torch.no_grad():
        found = compute(doubled)
    values = [found.now, found.constant, found.chance or 0.0]
    return found if all(map(math.isfinite, values)) else None


def _classes(named: dict[str, Any], loss: Callable[..., Tensor], options: dict[str, Any]) -> Levels:
    x, target, weight = named["input"], named["target"], named["weight"]
    axis = 1 if x.dim() > 1 else 0
    classes = x.shape[axis]
    if target.is_floating_point():
        shares = target.movedim(axis, -1).reshape(-1, classes).sum(0)
    else:
        counted = target[target != named["ignore_index"]].flatten()
        shares = torch.bincount(counted, minlength=classes).double()
    shares = shares / shares.sum()
    smooth = options.get("label_smoothing", 0.0)
    shares = shares * (1 - smooth) + smooth / classes
    if weight is not None:
        shares = shares * weight / (shares * weight).sum()
    shape = [1] * x.dim()
    shape[axis] = classes
    best = shares.clamp(min=_EPS).log().view(shape).expand_as(x)
    even = torch.full_like(x, -math.log(classes))

    def of(scores: Tensor) -> float:
        return float(loss(scores, target, weight, ignore_index=named["ignore_index"], **options))

    return Levels(of(x), of(best), of(even), f"ln {classes}")


def _cross_entropy(named: dict[str, Any]) -> Levels:
    return _classes(named, F.cross_entropy, {"label_smoothing": named["label_smoothing"]})


def _nll(named: dict[str, Any]) -> Levels:
    return _classes(named, F.nll_loss, {})


def _binary_logits(named: dict[str, Any]) -> Levels:
    x, target, heavier = named["input"], named["target"], named["pos_weight"]

    def of(scores: Tensor) -> float:
        return float(F.binary_cross_entropy_with_logits(scores, target, pos_weight=heavier))

    yes = target.mean(0, keepdim=True) if x.dim() else target
    odds = yes / (1 - yes).clamp(min=_EPS) * (1 if heavier is None else heavier)
    best = odds.clamp(_EPS, 1 / _EPS).log().expand_as(x)
    return Levels(of(x), of(best), of(torch.zeros_like(x)), "ln 2")


def _binary(named: dict[str, Any]) -> Levels:
    x, target = named["input"], named["target"]
    yes = target.mean(0, keepdim=True).clamp(_EPS, 1 - _EPS) if x.dim() else target
    losses = [x, yes.expand_as(x), torch.full_like(x, 0.5)]
    now, best, even = [float(F.binary_cross_entropy(each, target)) for each in losses]
    return Levels(now, best, even, "ln 2")


def _distance(loss: Callable[..., Tensor], center: str, *options: str) -> Any:
    def compute(named: dict[str, Any]) -> Levels:
        x, target = named["input"], named["target"]
        middle = (
            target.median(0, keepdim=True).values if center == "median" else target.mean(0, True)
        )
        given = {name: named[name] for name in options}
        now, best = [float(loss(each, target, **given)) for each in (x, middle.expand_as(x))]
        spread = f"mean {float(target.mean()):.3g}, standard deviation {float(target.std()):.3g}"
        return Levels(now, best, None, "", spread)

    return compute


def _poisson(named: dict[str, Any]) -> Levels:
    x, target = named["input"], named["target"]
    given = {name: named[name] for name in ("log_input", "full", "eps")}
    rate = target.mean(0, keepdim=True).clamp(min=_EPS)
    best = (rate.log() if named["log_input"] else rate).expand_as(x)
    now, constant = [float(F.poisson_nll_loss(each, target, **given)) for each in (x, best)]
    return Levels(now, constant, None, "")


_KNOWN: dict[str, Callable[[dict[str, Any]], Levels]] = {
    "cross_entropy": _cross_entropy,
    "nll_loss": _nll,
    "binary_cross_entropy_with_logits": _binary_logits,
    "binary_cross_entropy": _binary,
    "mse_loss": _distance(F.mse_loss, "mean"),
    "l1_loss": _distance(F.l1_loss, "median"),
    "smooth_l1_loss": _distance(F.smooth_l1_loss, "median", "beta"),
    "huber_loss": _distance(F.huber_loss, "median", "delta"),
    "poisson_nll_loss": _poisson,
}
