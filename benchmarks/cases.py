"""The losses that are measured, one row each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import safeloss
from safeloss import functional as SF

Tensors = tuple[Tensor, ...]
CLASSES = 8


class Case(NamedTuple):
    """A native loss and the safe one that stands in for it, as modules and as functions."""

    name: str  # the safe loss, with "/" and the native one where that is not its namesake
    native: Callable[..., nn.Module]
    safe: Callable[..., nn.Module]
    native_function: Callable[..., Tensor]
    safe_function: Callable[..., Tensor]
    inputs: Callable[[int], Tensors]  # what native must be given, with scores of n elements
    normalised: Callable[..., Tensors] | None  # the same numbers in a shape that is repaired
    scores: tuple[int, ...] = (0,)  # which of the inputs get gradients


def binary(elements: int) -> Tensors:
    """Yes/no questions, `[batch, 1]` both."""
    shape = (elements, 1)
    return torch.randn(shape), torch.randint(2, shape).float()


def several(elements: int) -> Tensors:
    """Several yes/no questions per sample, `[batch, classes]` both; never fewer than one sample."""
    shape = (max(1, elements // CLASSES), CLASSES)
    return torch.randn(shape), torch.randint(2, shape).float()


def indices(elements: int) -> Tensors:
    """Scores `[batch, classes]` and the indices `[batch]` of the right classes."""
    batch = max(1, elements // CLASSES)
    return torch.randn(batch, CLASSES), torch.randint(CLASSES, (batch,))


def squeezed(input: Tensor, target: Tensor) -> Tensors:
    return input, target.squeeze(-1)


def unsqueezed(input: Tensor, target: Tensor) -> Tensors:
    return input, target.unsqueeze(1)


# fmt: off
CASES = (
    Case("BCEWithLogits",
         nn.BCEWithLogitsLoss, safeloss.SafeBCEWithLogitsLoss,
         F.binary_cross_entropy_with_logits, SF.binary_cross_entropy_with_logits,
         binary, squeezed),
    Case("CrossEntropy",
         nn.CrossEntropyLoss, safeloss.SafeCrossEntropyLoss,
         F.cross_entropy, SF.cross_entropy,
         indices, unsqueezed),
    Case("MultiLabelBCE/SoftMargin",
         nn.MultiLabelSoftMarginLoss, safeloss.MultiLabelBCE,
         F.multilabel_soft_margin_loss, SF.multilabel_binary_cross_entropy,
         several, unsqueezed),
    Case("MultiLabelBCE/BCE",
         nn.BCEWithLogitsLoss, safeloss.MultiLabelBCE,
         F.binary_cross_entropy_with_logits, SF.multilabel_binary_cross_entropy,
         several, unsqueezed),
)
# fmt: on


def named(names: list[str]) -> tuple[Case, ...]:
    """The rows whose names contain one of `names`, in any case; all of them for none."""
    wanted = [name.lower() for name in names]
    found = tuple(
        case for case in CASES if not wanted or any(name in case.name.lower() for name in wanted)
    )
    if not found:
        raise SystemExit(f"No loss matches {names}; there are {[case.name for case in CASES]}.")
    return found


def prepared(case: Case, elements: int, backward: bool, device: str = "cpu") -> Tensors:
    """The inputs of `case`, the same ones every time; their scores get gradients for `backward`."""
    torch.manual_seed(0)
    made = [tensor.to(device) for tensor in case.inputs(elements)]
    for position in case.scores:
        made[position].requires_grad_(backward)
    return tuple(made)


def as_passed(case: Case, inputs: Tensors) -> Tensors:
    """`inputs` in the shape that is repaired, sharing the leaves that get gradients."""
    assert case.normalised is not None
    return case.normalised(*inputs)


def shapes(inputs: Tensors) -> list[Any]:
    return [list(tensor.shape) for tensor in inputs]
