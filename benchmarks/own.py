"""What `safeloss.checked` adds to a body, and focal and dice beside other libraries' losses:
`python -m benchmarks.own`. Arms run in turn on the same machine; the numbers are medians."""

import importlib.util
import statistics
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import safeloss
from benchmarks.timing import Loop, Pace, loop, measure
from safeloss import layouts

PACE = Pace(rounds=41, most_s=3.0)
HEADER = (
    "| elements | theirs us | ours us | ratio | with gradients us | ours us | ratio |\n"
    "|--:|--:|--:|--:|--:|--:|--:|"
)
ZERO = torch.zeros(())
SIZES = (1, 2**6, 2**12, 2**18, 2**22)


def body(pred: Tensor, true: Tensor, gamma: float = 2.0) -> Tensor:
    """A focal loss, as people write it, without any check."""
    p = torch.where(true > 0.5, pred.sigmoid(), 1 - pred.sigmoid())
    return (1 - p) ** gamma * F.binary_cross_entropy_with_logits(pred, true, reduction="none")


@safeloss.checked
def focal(
    pred: layouts.Scores, true: layouts.Labels, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """The same, checked."""
    return body(pred, true, gamma)


@safeloss.checked
def nothing(pred: layouts.Scores, true: layouts.Labels) -> Float[Tensor, ""]:
    """As little as there can be: all that is left is what is added."""
    return ZERO


def bare_nothing(pred: Tensor, true: Tensor) -> Tensor:
    """The body of `nothing`."""
    return ZERO


def reference(package: str, module: str) -> Any:
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


def compared(theirs: Callable[..., Tensor], ours: Callable[..., Tensor], *inputs: Tensor) -> str:
    """Forward, and with gradients: microseconds of theirs and of ours, and the ratio."""
    cells = []
    for backward in (False, True):
        arms: dict[str, Loop] = {
            "theirs": loop(theirs, inputs, backward),
            "ours": loop(ours, inputs, backward),
        }
        times = measure(arms, PACE).by_arm
        ratio = statistics.median(o / t for o, t in zip(times["ours"], times["theirs"]))
        medians = [statistics.median(times[name]) for name in ("theirs", "ours")]
        cells.append(f"{medians[0]:.1f} | {medians[1]:.1f} | {ratio:.2f}")
    return " | ".join(cells)


def main() -> None:
    """Print what was measured."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    x, y = torch.randn(1, 1, requires_grad=True), torch.ones(1, 1)
    for name, bare, checked in (
        ("whole", bare_nothing, nothing),
        ("focal, unreduced", body, lambda a, b: focal(a, b, reduction="none")),
        ("focal, mean", lambda a, b: body(a, b).mean(), focal),
    ):
        arms: dict[str, Loop] = {
            "bare": loop(bare, (x, y), False),
            "own": loop(checked, (x, y), False),
        }
        times = measure(arms, PACE)
        added = [o - b for o, b in zip(times.by_arm["own"], times.by_arm["bare"])]
        print(f"checked adds {statistics.median(added):.2f} us to {name}")
    vision, monai = reference("torchvision", "ops.focal_loss"), importlib.util.find_spec("monai")
    for compiled in (False, True):
        kind = "compiled" if compiled else "eager"
        made = torch.compile if compiled else lambda loss: loss
        if vision is not None:
            print(f"\nSigmoidFocalLoss and torchvision, {kind}\n\n{HEADER}")
            theirs = made(lambda a, b: vision.sigmoid_focal_loss(a, b, reduction="mean"))
            ours = made(safeloss.SigmoidFocalLoss(check_values="never"))
            for size in SIZES:
                x = torch.randn(size, 1, requires_grad=True)
                print(f"| {size} | {compared(theirs, ours, x, x.detach().sigmoid().round())} |")
        if monai is not None:
            from monai.losses import DiceLoss

            print(f"\nDiceLoss and MONAI, {kind}\n\n{HEADER}")
            theirs = made(DiceLoss(sigmoid=True))
            ours = made(safeloss.DiceLoss(check_values="never"))
            for size in SIZES:
                side = max(1, round((size / 4) ** 0.5))
                x = torch.randn(max(1, size // side**2), 1, side, side, requires_grad=True)
                row = compared(theirs, ours, x, x.detach().sigmoid().round())
                print(f"| {x.numel()} | {row} |")


if __name__ == "__main__":
    main()
