"""Losses that PyTorch lacks: a checked one beside its body, focal and dice beside other libraries'.

Here the first arm of a comparison is the body, or torchvision's loss, or MONAI's.
"""

import importlib.util
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import safeloss
from benchmarks.cases import Case, Tensors, binary
from safeloss import layouts


def body(pred: Tensor, true: Tensor, gamma: float = 2.0) -> Tensor:
    """A focal loss, as people write it, without any check."""
    p = torch.where(true > 0.5, pred.sigmoid(), 1 - pred.sigmoid())
    return (1 - p) ** gamma * F.binary_cross_entropy_with_logits(pred, true, reduction="none")


@safeloss.checked
def checked_focal(
    pred: layouts.Scores, true: layouts.Labels, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """The same, checked."""
    return body(pred, true, gamma)


def mean_of_body(pred: Tensor, true: Tensor) -> Tensor:
    return body(pred, true).mean()


def images(elements: int) -> Tensors:
    """Scores and masks of images, `[batch, 1, height, width]` both, four where there is room."""
    side = max(1, round((elements / 4) ** 0.5))
    shape = (max(1, elements // side**2), 1, side, side)
    return torch.randn(shape), torch.randint(2, shape).float()


def own_cases() -> tuple[Case, ...]:
    """One row each; those of other libraries only where these are installed."""
    # As it is called: an option by keyword would cost more than the check.
    found = [_case("checked/body", lambda: mean_of_body, lambda **_: checked_focal, binary)]
    vision = _without_its_package("torchvision", "ops.focal_loss")
    if vision is not None:
        focal = partial(partial, vision.sigmoid_focal_loss, reduction="mean")
        found.append(
            _case("SigmoidFocalLoss/torchvision", focal, safeloss.SigmoidFocalLoss, binary)
        )
    if importlib.util.find_spec("monai") is not None:
        from monai.losses import DiceLoss

        dice = partial(DiceLoss, sigmoid=True)
        found.append(
            _case("DiceLoss/MONAI", dice, safeloss.DiceLoss, images)._replace(compiles=False)
        )
    return tuple(found)


def _case(
    name: str,
    theirs: Callable[..., Any],
    ours: Callable[..., Any],
    inputs: Callable[[int], Tensors],
) -> Case:
    return Case(name, theirs, ours, None, None, inputs, None)


def _without_its_package(package: str, module: str) -> Any:
    """A module of another library, without all that its package imports; None if it is absent."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    root, folder = Path(spec.origin).parent, module.split(".")[0]
    utils: Any = types.ModuleType(f"_{package}.utils")
    utils._log_api_usage_once = lambda *_: None
    for name, path in ((f"_{package}", root), (f"_{package}.{folder}", root / folder)):
        stub = types.ModuleType(name)
        stub.__path__ = [str(path)]
        sys.modules[name] = stub
    sys.modules[f"_{package}.utils"] = utils
    return importlib.import_module(f"_{package}.{module}")
