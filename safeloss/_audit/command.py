"""`python -m safeloss audit`: find a loss, draw tensors for it, print the report."""

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._audit import audit
from safeloss._audit.pictures import MISSING, writer
from safeloss._audit.verdicts import UNDECIDED
from safeloss._spelling import did_you_mean
from safeloss.errors import SafeLossError

NO_VERDICT = 2  # the exit code, as for a command line that is wrong

# What a model may end in: the numbers that its loss expects as input.
ACTIVATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "none": lambda scores, axis: scores,
    "sigmoid": lambda scores, axis: scores.sigmoid(),
    "softmax": lambda scores, axis: scores.softmax(axis),
    "log_softmax": lambda scores, axis: scores.log_softmax(axis),
}


class Spec(NamedTuple):
    """A tensor to draw: `float32[8,1]`."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def spec(text: str) -> Spec:
    """Read `float32[8,1]`; the ValueError says what is wrong with it."""
    parts = re.fullmatch(r"(\w+)\[\s*(\d+(?:\s*,\s*\d+)*)?\s*,?\s*\]", text.strip())
    if parts is None:
        raise ValueError(f"{text!r} is no dtype and shape, such as float32[8,1]")
    dtype = getattr(torch, parts[1], None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{text!r}: torch has no dtype {parts[1]!r}")
    return Spec(dtype, tuple(int(size) for size in (parts[2] or "").split(",") if size))


def loss_at(place: str) -> Callable[..., Any]:
    """The loss at `PATH.py:NAME` or `package.module:NAME`; a class is made an instance of."""
    where, colon, name = place.rpartition(":")
    if not colon or not name:
        raise ValueError(f"{place!r} is no PATH.py:FUNCTION or package.module:FUNCTION")
    module = _from_file(Path(where)) if where.endswith(".py") else _from_path(where)
    try:
        found = reduce(getattr, name.split("."), module)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        near, known = did_you_mean(name, public), ", ".join(public)
        raise ValueError(f"{where} has no {name!r}, only {known}.{near}") from None
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            advice = "write a function that makes one and calls it"
            raise ValueError(
                f"{name} cannot be made without arguments ({error}): {advice}"
            ) from None
    if not callable(found):
        raise ValueError(f"{place} cannot be called: it is of type {type(found).__name__}")
    return found


def _from_path(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"there is no module {name!r}") from None
        raise  # one that the user's module imports


def _from_file(path: Path) -> ModuleType:
    """A user's file as a module, beside its own neighbours: what is under `__main__` rests."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    sys.path.insert(0, str(path.parent.resolve()))
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ValueError(f"{str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules.setdefault(path.stem, module)  # where dataclasses look for it
    found.loader.exec_module(module)
    return module


def drawn(
    input: Spec,
    targets: Sequence[Spec],
    classes: int | None,
    class_dim: int | None,
    activation: str,
) -> list[Tensor]:
    """Scores of a normal distribution; targets of [0, 1), or of the classes that there are."""
    axis = class_dim if class_dim is not None else min(1, len(input.shape) - 1)
    tensors = [ACTIVATIONS[activation](torch.randn(input.shape).to(input.dtype), axis)]
    for target in targets:
        if target.dtype.is_floating_point:
            tensors.append(torch.rand(target.shape).to(target.dtype))
        else:
            # Indices; or, of two embeddings or for every score, a yes or a no.
            indices = len(target.shape) < len(input.shape) and len(targets) == 1
            end = classes or (max(2, input.shape[axis]) if indices else 2)
            tensors.append(torch.randint(end, target.shape).to(target.dtype))
    return tensors


def run(
    place: str,
    input: Spec,
    targets: Sequence[Spec],
    *,
    classes: int | None = None,
    class_dim: int | None = None,
    activation: str = "none",
    seed: int = 0,
    output: Path | None = None,
) -> int:
    """Audit and print; the exit code is 0 without a bug, 1 with one, 2 without a verdict."""
    if (
        output is not None
        and output.suffix == ".png"
        and not importlib.util.find_spec("matplotlib")
    ):
        print(MISSING, file=sys.stderr)
        return NO_VERDICT
    try:
        loss = loss_at(place)
        torch.manual_seed(seed)
        tensors = drawn(input, targets, classes, class_dim, activation)
        report = audit(loss, *tensors, class_dim=class_dim)
    except (SafeLossError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return NO_VERDICT
    except (Exception, SystemExit):  # of the user's file, which may raise whatever it likes
        traceback.print_exc()
        return NO_VERDICT
    print(report)
    if output is not None:
        writer(output)(report, output)
        print(f"\nReport: {output}")
    if report.kind in UNDECIDED:
        return NO_VERDICT
    return int(report.bug)
