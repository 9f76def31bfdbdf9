"""Checks for authors of losses: what every loss should do, tried on one of them."""

import contextlib
import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from safeloss._audit import audit

__all__ = ["Check", "Report", "Row", "check_loss", "checks"]

_Loss = Callable[..., Any]


class Skipped(Exception):  # noqa: N818  # it is no error
    """Says why a check has no meaning for a loss."""


class Row(NamedTuple):
    """What one check has found."""

    name: str
    outcome: str  # "passed", "failed" or "skipped"
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What all checks have found about a loss; print it."""

    loss: str
    rows: tuple[Row, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(row.name for row in self.rows if row.outcome == "failed")

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [
            f"    {row.outcome:7}  {row.name:{width}}  {row.reason}".rstrip() for row in self.rows
        ]
        return "\n".join([f"{self.loss}: {len(self.failed)} of {len(self.rows)} failed", *lines])


class Check(NamedTuple):
    """One check of one loss: call it. `str` is its name, as an id for pytest."""

    name: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Raise an `AssertionError` if the loss does not do what is expected."""
        with contextlib.suppress(Skipped):
            self.run()

    def __str__(self) -> str:
        return self.name


def check_loss(loss: _Loss, *inputs: Tensor, coupled: bool = False) -> Report:
    """Try on `loss(*inputs)` what every loss should do, as scikit-learn's `check_estimator` does.

    Axis 0 of all inputs counts the samples, of which there must be 4 or more. `coupled` says that
    the samples depend on each other on purpose, as in a contrastive loss over a batch.

    Raises:
        AssertionError: the report of all checks, of which at least one failed.

    >>> from safeloss import SigmoidFocalLoss
    >>> check_loss(SigmoidFocalLoss(), torch.randn(8, 1), torch.arange(8) % 2).failed
    ()
    """
    rows = []
    for check in checks(loss, *inputs, coupled=coupled):
        try:
            check.run()
            rows.append(Row(check.name, "passed"))
        except Skipped as reason:
            rows.append(Row(check.name, "skipped", str(reason)))
        except AssertionError as reason:
            rows.append(Row(check.name, "failed", str(reason)))
    report = Report(getattr(loss, "__name__", type(loss).__name__), tuple(rows))
    if report.failed:
        raise AssertionError(str(report))
    return report


def checks(loss: _Loss, *inputs: Tensor, coupled: bool = False) -> list[Check]:
    """The checks of `check_loss`, each for itself: `pytest.mark.parametrize("check", checks(...))`.

    >>> from safeloss import SigmoidFocalLoss
    >>> [check.name for check in checks(SigmoidFocalLoss(), torch.randn(8), torch.rand(8))][:2]
    ['samples are independent', 'the batch size does not matter']
    """
    if len(inputs[0]) < _FEWEST:
        raise ValueError(f"check_loss: {len(inputs[0])} samples are too few; give {_FEWEST}.")

    def bound(check: Callable[..., None]) -> Callable[[], None]:
        return lambda: check(loss, *[tensor.detach() for tensor in inputs])

    found = []
    for name, check, independent in _CHECKS:
        if coupled and independent:
            found.append(Check(name, _said_to_be_coupled))
        else:
            found.append(Check(name, bound(check)))
    return found


_FEWEST = 4


def _said_to_be_coupled() -> None:
    raise Skipped("the samples are said to be coupled")


def _value(result: Any) -> Tensor:
    """One number of what a loss returns: a tensor, or several in a tuple or a dict."""
    parts = [result]
    if isinstance(result, dict):
        parts = [*result.values()]
    elif isinstance(result, (tuple, list)):
        parts = [*result]
    numbers = [part.sum() for part in parts if isinstance(part, Tensor)]
    assert numbers, f"it returns {type(result).__name__}, and no tensor in it"
    return torch.stack([number.to(numbers[0].dtype) for number in numbers]).sum()


def _close(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=tolerance, atol=tolerance)


def _independent(loss: _Loss, *inputs: Tensor) -> None:
    if len(inputs) < 2:
        raise Skipped("there is one input only")
    found = audit(loss, *inputs)
    assert found.independent, f"{found.kind}: {found.verdict}"


def _any_batch(loss: _Loss, *inputs: Tensor) -> None:
    half = len(inputs[0]) // 2
    parts = [[x[:half] for x in inputs], [x[half : 2 * half] for x in inputs]]
    first, second = [_value(loss(*part)) for part in parts]
    whole = _value(loss(*[x[: 2 * half] for x in inputs]))
    both = first + second
    assert _close(whole, both) or _close(whole, both / 2), (
        f"two halves give {first.item():g} and {second.item():g}, and both together "
        f"{whole.item():g}: neither their sum nor their mean"
    )
    one = _value(loss(*[x[:1] for x in inputs]))
    assert one.isfinite(), f"a batch of one gives {one.item():g}"


def _differentiable(loss: _Loss, *inputs: Tensor) -> None:
    held = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
    wide = [x.double() if x.is_floating_point() else x for x in inputs]
    first = wide[0].requires_grad_()
    try:
        torch.autograd.gradcheck(lambda x: _value(held(x, *wide[1:])), (first,))
    except GradcheckError as error:
        lines = str(error).splitlines()
        raise AssertionError(f"the gradient is not that of the value: {lines[0]}") from None


def _compiles(loss: _Loss, *inputs: Tensor) -> None:
    torch._dynamo.reset()  # what was compiled before may be that of another loss
    failures: Any = torch._dynamo
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    try:
        value = _value(compiled(*inputs))
    except failures.exc.TorchDynamoException as error:
        lines = str(error).splitlines()
        raise AssertionError(f"torch.compile(fullgraph=True) fails: {lines[0]}") from None
    expected = _value(loss(*inputs))
    assert _close(value, expected), f"compiled {value.item():g}, eager {expected.item():g}"


def _refuses(loss: _Loss, *inputs: Tensor) -> None:
    expected = _value(loss(*inputs))
    first = inputs[0]
    for place in range(1, len(inputs)):
        given = inputs[place]
        for what, scores, other in _loose(first, given):
            try:
                value = _value(loss(scores, *inputs[1:place], other, *inputs[place + 1 :]))
            except Exception:  # whatever it is, the call is refused
                continue
            assert _close(value, expected), (
                f"argument {place} as {what} is taken, and gives {value.item():g} instead of "
                f"{expected.item():g}"
            )


def _loose(first: Tensor, given: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Layouts of the same numbers that broadcasting would repeat, and one number for all."""
    same = first.shape == given.shape
    if same and first.dim() == 1:
        yield "[B] against [B, 1]", first[:, None], given
        yield "[1, B] against [B, 1]", first[:, None], given[None]
    if same and first.dim() == 2 and first.shape[1] == 1:
        yield "[B] against [B, 1]", first, given[:, 0]
        yield "[1, B] against [B, 1]", first, given.T
    if same and len(set(given.flatten().tolist())) > 1:
        yield "its first sample alone", first, given[:1]


def _accepts(loss: _Loss, option: str) -> bool:
    called = loss.forward if isinstance(loss, nn.Module) else loss
    return option in inspect.signature(called).parameters


def _masks(loss: _Loss, *inputs: Tensor) -> None:
    if not _accepts(loss, "mask"):
        raise Skipped("it takes no mask")
    mask = torch.arange(len(inputs[0]), device=inputs[0].device) % 2 == 0
    value, kept = _value(loss(*inputs, mask=mask)), _value(loss(*[x[mask] for x in inputs]))
    assert _close(value, kept), f"masked {value.item():g}, without those samples {kept.item():g}"


def _weights(loss: _Loss, *inputs: Tensor) -> None:
    if not _accepts(loss, "sample_weight"):
        raise Skipped("it takes no sample weights")
    weight = (torch.arange(len(inputs[0]), device=inputs[0].device) % 2 == 0).to(inputs[0].dtype)
    value = _value(loss(*inputs, sample_weight=weight))
    kept = _value(loss(*[x[weight > 0] for x in inputs]))
    assert _close(value, kept), f"weighted {value.item():g}, without those of 0 {kept.item():g}"


def _copies(loss: _Loss, *inputs: Tensor) -> None:
    expected = _value(loss(*inputs))
    try:
        again = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))]  # just written
    except (pickle.PicklingError, AttributeError) as error:
        if isinstance(loss, nn.Module) and "<locals>" not in type(loss).__qualname__:
            raise AssertionError(f"it cannot be pickled: {error}") from None
        raise Skipped("it is defined inside a function, which pickle cannot find") from None
    for other in again:
        assert _close(_value(other(*inputs)), expected), "a copy gives another value"


def _low_precision(loss: _Loss, *inputs: Tensor) -> None:
    expected = _value(loss(*inputs))
    with torch.autocast(inputs[0].device.type, torch.bfloat16):
        value = _value(loss(inputs[0].bfloat16(), *inputs[1:]))
    assert value.isfinite(), f"bfloat16 scores under autocast give {value.item():g}"
    near = 0.05 * float(expected.abs()) + 0.05
    assert abs(float(value) - float(expected)) <= near, (
        f"bfloat16 scores under autocast give {value.item():g}, float32 {expected.item():g}"
    )


# The name of each check, and whether it has a meaning only where samples are independent.
_CHECKS: tuple[tuple[str, Callable[..., None], bool], ...] = (
    ("samples are independent", _independent, True),
    ("the batch size does not matter", _any_batch, True),
    ("the gradient is right", _differentiable, False),
    ("compiled code gives the same", _compiles, False),
    ("what would broadcast is refused or aligned", _refuses, False),
    ("a mask leaves samples out", _masks, True),
    ("a sample weight of 0 leaves samples out", _weights, True),
    ("copies and pickles give the same", _copies, False),
    ("it works under autocast", _low_precision, False),
)
