"""Every loss of the library, one row each: the laws are tests over this table.

A row says what is native, and draws inputs that native accepts: so a loss that is added to the
table is covered by every law.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

import safeloss
from safeloss import functional as SF

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Drawn:
    """Inputs in the layouts that native expects, and options of the constructor."""

    inputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loss:
    safe: type[nn.Module]
    native: type[nn.Module]
    kernel: Callable[..., Tensor]
    native_kernel: Callable[..., Tensor]
    draw: Callable[[st.DrawFn, torch.dtype], Drawn]
    batch: Callable[[int], list[Tensor]]  # plain inputs of so many samples, with fine values
    pinned: bool = False  # a size-1 axis before the batch is refused

    def __str__(self) -> str:
        return self.safe.__name__


def _shape(draw: st.DrawFn, least: int = 0, most: int = 3) -> list[int]:
    return draw(st.lists(st.integers(1, 4), min_size=least, max_size=most))


def _scores(draw: st.DrawFn, shape: list[int], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul(3).to(dtype)


def _chances(draw: st.DrawFn, shape: list[int], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def _indices(draw: st.DrawFn, shape: list[int], classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randint(classes, shape, generator=generator)


def _reduction(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["none", "mean", "sum"]))


def _binary(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    shape = _shape(draw)
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    for name in ("weight", "pos_weight"):
        kind = draw(st.sampled_from(["none", "full", "scalar", "trailing"]))
        if kind == "full":
            options[name] = _chances(draw, shape, dtype)
        elif kind == "scalar":
            options[name] = _chances(draw, [], dtype)
        elif kind == "trailing" and 1 <= len(shape) <= 2:
            options[name] = _chances(draw, shape[-1:], dtype)
    return Drawn([_scores(draw, shape, dtype), _chances(draw, shape, dtype)], options)


def _multilabel(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, classes = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    shape = [batch, classes]
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    if draw(st.booleans()):
        options["pos_weight"] = _chances(draw, [classes], dtype)
    return Drawn([_scores(draw, shape, dtype), _chances(draw, shape, dtype)], options)


def _classes(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, classes, space = draw(st.integers(1, 5)), draw(st.integers(2, 4)), _shape(draw, most=2)
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1]))
    if draw(st.booleans()):
        options["weight"] = _chances(draw, [classes], dtype)
    scores = _scores(draw, [batch, classes, *space], dtype)
    if draw(st.booleans()):
        return Drawn([scores, _scores(draw, [batch, classes, *space], dtype).softmax(1)], options)
    if len(scores.shape) > 2:
        options["class_dim"] = 1  # where the sizes may make it a tie
    target = _indices(draw, [batch, *space], classes)
    if draw(st.booleans()):
        options["ignore_index"] = int(_indices(draw, [], classes))
    return Drawn([scores, target], options)


LOSSES = [
    Loss(
        safeloss.SafeBCEWithLogitsLoss,
        nn.BCEWithLogitsLoss,
        SF.binary_cross_entropy_with_logits,
        F.binary_cross_entropy_with_logits,
        _binary,
        lambda n: [torch.randn(n, 1), torch.rand(n, 1)],
    ),
    Loss(
        safeloss.MultiLabelBCE,
        nn.BCEWithLogitsLoss,
        SF.multilabel_binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
        _multilabel,
        lambda n: [torch.randn(n, 3), torch.rand(n, 3)],
        pinned=True,
    ),
    Loss(
        safeloss.SafeCrossEntropyLoss,
        nn.CrossEntropyLoss,
        SF.cross_entropy,
        F.cross_entropy,
        _classes,
        lambda n: [torch.randn(n, 3, 7), torch.randint(3, (n, 7))],
        pinned=True,
    ),
]
OURS = ("class_dim", "num_classes", "check_values", "empty")


@st.composite
def calls(draw: st.DrawFn, loss: Loss, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Drawn:
    """A call that native accepts, with values never read: they are random numbers."""
    drawn = loss.draw(draw, draw(st.sampled_from(dtypes)))
    drawn.options["check_values"] = "never"
    return drawn


def build(loss: Loss, drawn: Drawn) -> tuple[nn.Module, nn.Module]:
    """The safe module and the native one, with the same options."""
    native = {name: value for name, value in drawn.options.items() if name not in OURS}
    return loss.safe(**drawn.options), loss.native(**native)


def run(module: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """The value and the gradients of all floating inputs."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    value = module(*leaves)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    grads = torch.autograd.grad(value.sum(), wanted, allow_unused=True)
    return [value.detach(), *[g for g in grads if g is not None]]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Equal bit for bit, NaN being NaN."""
    return len(one) == len(other) and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(one, other)
    )
