"""A loss as an experiment: called on copies, from one state of the generators, isolated."""

import contextlib
import copy
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from safeloss._audit.snapshot import Snapshot, copy_of
from safeloss._contract.codes import AUDIT
from safeloss._messages.explain import describe
from safeloss._progress import Progress
from safeloss.errors import Argument, ArgumentTypeError, SafeLossError

AnyLoss: TypeAlias = Callable[..., Any]

# What may stand between a scalar loss and the mean or sum that made it a scalar.
_ON_SCALARS = ("Neg", "Mul", "Div", "Add", "Sub", "Sqrt", "Log", "Pow", "Squeeze", "View")


class Samples(NamedTuple):
    """A batch: the input counts its samples along axis 0, every other argument along its `axis`.

    `target` is the argument that samples exchange; what else a loss takes goes with the input.
    """

    input: Tensor
    target: Tensor
    axis: int | None  # None: one target for all
    others: tuple[tuple[Tensor, int | None], ...] = ()
    place: int = 0  # of the target, among all arguments after the input

    @property
    def size(self) -> int:
        """The number of samples."""
        return len(self.input)

    @property
    def arguments(self) -> list[Tensor]:
        """The arguments of the loss, in the order of its signature."""
        others = [tensor for tensor, _ in self.others]
        return [self.input, *others[: self.place], self.target, *others[self.place :]]

    def with_each_target(self) -> list["Samples"]:
        """A copy for each argument that may be the target: the first, and those per sample."""
        first = self.in_order()
        rest = [(first.target, first.axis), *first.others]
        return [
            Samples(self.input, *rest[place], (*rest[:place], *rest[place + 1 :]), place)
            for place, (_, axis) in enumerate(rest)
            if not place or axis is not None
        ]

    def in_order(self) -> "Samples":
        """The same, with the first argument after the input as the target."""
        rest = list(self.others)
        rest.insert(self.place, (self.target, self.axis))
        return Samples(self.input, *rest[0], tuple(rest[1:]))

    def take(self, inputs: list[int], targets: list[int] | None = None) -> "Samples":
        """Those samples; or those inputs, each with the target of another sample."""
        return Samples(
            _taken(self.input, 0, inputs),
            _taken(self.target, self.axis, inputs if targets is None else targets),
            self.axis,
            tuple((_taken(tensor, axis, inputs), axis) for tensor, axis in self.others),
            self.place,
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> "Samples":
        """The same elsewhere and in another precision; indices remain what they are."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

        others = tuple((moved(tensor), axis) for tensor, axis in self.others)
        return self._replace(input=moved(self.input), target=moved(self.target), others=others)

    def targets(self) -> Tensor:
        """The targets, one row per sample."""
        return self.target.unsqueeze(0) if self.axis is None else self.target.movedim(self.axis, 0)


def _taken(tensor: Tensor, axis: int | None, rows: list[int]) -> Tensor:
    if axis is None:
        return tensor
    return tensor.index_select(axis, torch.tensor(rows, device=tensor.device))


class Outcome(NamedTuple):
    """What one call of the loss came to."""

    value: Tensor  # what an optimiser would lower: the mean, if the loss gives several numbers
    gradient: Tensor  # of the input

    @property
    def finite(self) -> bool:
        return bool(self.value.isfinite()) and bool(self.gradient.isfinite().all())


def tolerance(outcome: Outcome) -> float:
    """The relative error that may be rounding, in the dtype of the loss."""
    dtype = outcome.value.dtype
    return 1e-6 if dtype == torch.float64 else float(torch.finfo(dtype).eps ** 0.5)


class Generators:
    """The state of every random generator that a loss is likely to draw from."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._module: Any = None if device.type == "cpu" else torch.get_device_module(device)
        self._numpy: Any = getattr(sys.modules.get("numpy"), "random", None)
        self._states = self._read()

    def _read(self) -> tuple[Any, ...]:
        return (
            torch.get_rng_state(),
            self._module and self._module.get_rng_state(self.device),
            self._numpy and self._numpy.get_state(),
            random.getstate(),
        )

    def restore(self) -> None:
        """Set them back to where they were."""
        ours, accelerator, arrays, python = self._states
        torch.set_rng_state(ours)
        if self._module:
            self._module.set_rng_state(accelerator, self.device)
        if self._numpy:
            self._numpy.set_state(arrays)
        random.setstate(python)

    def were_used(self) -> bool:
        """Whether a number was drawn since the state was saved."""
        return any(_differ(a, b) for a, b in zip(self._read(), self._states))


class Probe:
    """A loss that may be called as often as we like, in double precision where it can.

    `samples` are those given in that precision, `draws` says whether the loss draws random
    numbers, and `steady` whether it gives the same twice from the same state of the generators.
    """

    def __init__(
        self,
        loss: AnyLoss,
        samples: Samples,
        generators: Generators,
        progress: Progress,
    ) -> None:
        self._generators, self._progress = generators, progress
        self.returned = ""  # what, if not a tensor
        first = self._start(loss, samples)
        self.draws = generators.were_used()
        self.steady = _same(first, self(self.samples))

    def __call__(self, samples: Samples) -> Outcome:
        """The value, and its gradient of the input alone: no other tensor gets one."""
        result, leaf = self._run(self.fresh(), samples)
        if not isinstance(result, Tensor):
            raise ArgumentTypeError(
                f"it returned {_described(result)}, and no tensor that is the loss"
            )
        value = result.mean() if result.dim() else result
        if not value.requires_grad:
            raise ArgumentTypeError("what it returned has no gradient")
        (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
        gradient = torch.zeros_like(leaf) if gradient is None else gradient
        return Outcome(value.detach(), gradient)

    def _start(self, loss: AnyLoss, samples: Samples) -> Outcome:
        """Copy the loss and the samples, if possible to float64 and the CPU; the first outcome."""
        device, dtype = samples.input.device, samples.input.dtype
        double = torch.float64
        *better, given = dict.fromkeys(
            ((torch.device("cpu"), double), (device, double), (device, dtype))
        )
        for place in better:
            with contextlib.suppress(Exception):  # of a loss that holds other tensors, say
                return self._start_on(loss, samples, *place)
        return self._start_on(loss, samples, *given)

    def _start_on(
        self, loss: AnyLoss, samples: Samples, device: torch.device, dtype: torch.dtype
    ) -> Outcome:
        self.samples = samples.to(device, dtype)
        same = (device, dtype) == (samples.input.device, samples.input.dtype)
        self._loss = _copied(loss, *(() if same else (device, dtype)))
        self._state = Snapshot(self._loss)
        return self(self.samples)

    def of(self, loss: AnyLoss) -> "Probe":
        """Another loss on the same samples."""
        return Probe(loss, self.samples, self._generators, self._progress)

    def expect(self, calls: int) -> None:
        """So many more calls are to come."""
        self._progress.expect(calls)

    def switch_to(self, samples: Samples) -> bool:
        """Replace the samples by others, if the loss takes them; gives whether it does."""
        with contextlib.suppress(Exception):  # whatever it raises: it goes on with those it has
            if self(samples).finite:
                self.samples = samples
                return True
        return False

    def unreduced_shape(self) -> tuple[int, ...] | None:
        """The shape of one loss per sample: that of `reduction="none"` where there is one, else
        that which the last mean or sum was taken over."""
        loss, samples = self.fresh(), self.samples
        with contextlib.suppress(Exception):  # whatever it raises, there is no such shape
            if isinstance(loss, nn.Module) and isinstance(getattr(loss, "reduction", None), str):
                loss = copy.copy(loss)
                loss.reduction = "none"  # type: ignore[assignment]  # a module's attribute
                return tuple(self._run(loss, samples)[0].shape)
            if "reduction" in inspect.signature(loss).parameters:
                return tuple(self._run(loss, samples, reduction="none")[0].shape)
        result, _ = self._run(loss, samples)
        return tuple(result.shape) or _shape_before_reduction(result)

    def fresh(self) -> AnyLoss:
        """The loss, put back into its state before any call."""
        self._state.restore()
        return self._loss

    def _run(self, loss: AnyLoss, samples: Samples, **options: str) -> tuple[Any, Tensor]:
        self._progress.step()
        self._generators.restore()
        leaf = samples.input.clone().requires_grad_()
        _, *others = samples.arguments
        copies = [other.clone(memory_format=torch.contiguous_format) for other in others]
        result: Any = loss(leaf.clone(), *copies, **options)  # copies may be changed in place
        chosen = _loss_of(result)
        self.returned = "" if chosen is result else _described(result)
        return chosen, leaf


def _loss_of(result: Any) -> Any:
    """The loss in what a call gave: alone, with a name, or before other values."""
    if isinstance(result, Mapping):
        return result.get("loss")
    if hasattr(result, "loss"):  # torch's adaptive softmax gives two tensors
        return result.loss
    return result[0] if isinstance(result, (tuple, list)) and result else result


def _described(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


@contextlib.contextmanager
def isolated(loss: AnyLoss, generators: Generators) -> Iterator[list[warnings.WarningMessage]]:
    """Run with gradients and without autocast, collect the warnings, and put all state back."""
    device, state = generators.device.type, Snapshot(loss)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.autocast(device, enabled=False),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            yield caught
        finally:
            state.restore()
            generators.restore()


def name_of(loss: AnyLoss) -> str:
    """The name of the loss, for messages."""
    function = getattr(loss, "func", loss)  # of a partial
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def names_of(loss: AnyLoss, number: int) -> tuple[str, ...]:
    """What its arguments are called: as those of `audit`, or, if there are more, by the loss."""
    if number > 2:
        with contextlib.suppress(TypeError, ValueError):  # of a callable without a signature
            names = list(inspect.signature(loss).parameters.values())[:number]
            if len(names) == number and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in names):
                return tuple(p.name for p in names)
    return ("input", "target", *(f"argument_{place}" for place in range(3, number + 1)))


def refused(name: str, rule: str, arguments: Mapping[str, Any]) -> SafeLossError:
    """The error for a loss or inputs that cannot be audited."""
    wrong_type = not all(isinstance(value, Tensor) for value in arguments.values())
    kind: type[SafeLossError] = ArgumentTypeError if wrong_type else SafeLossError
    return kind.about(name, rule, code=AUDIT, arguments=argument_rows(arguments))


def argument_rows(arguments: Mapping[str, Any]) -> tuple[Argument, ...]:
    """One row for each argument, for the table of an error message."""
    return tuple(
        Argument(
            name,
            describe(value.dtype, value.shape)
            if isinstance(value, Tensor)
            else type(value).__name__,
            "",
        )
        for name, value in arguments.items()
    )


def _copied(loss: AnyLoss, *place: torch.device | torch.dtype) -> AnyLoss:
    """A copy, so that the original sees no call; itself, where it cannot be copied."""
    copied = copy_of(loss)
    if copied is not loss and isinstance(copied, nn.Module):
        for each in place:
            copied.to(each)
    return copied


def _differ(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return not torch.equal(one, other)
    if isinstance(one, tuple):
        return any(_differ(a, b) for a, b in zip(one, other))
    return bool(one != other) if not hasattr(one, "tolist") else one.tolist() != other.tolist()


def _same(one: Outcome, other: Outcome) -> bool:
    pairs = ((one.value, other.value), (one.gradient, other.gradient))
    rtol = tolerance(one)
    return all(torch.allclose(a, b, rtol=rtol, atol=0, equal_nan=True) for a, b in pairs)


def _shape_before_reduction(result: Tensor) -> tuple[int, ...] | None:
    """The shape that the last mean or sum was taken over, as the graph remembers it."""
    node: Any = result.grad_fn
    while node is not None:
        name = node.name()
        if name.startswith(("MeanBackward", "SumBackward")):
            return tuple(int(size) for size in node._saved_self_sym_sizes)
        if not name.startswith(_ON_SCALARS):
            return None
        node = next((n for n, _ in node.next_functions if n is not None), None)
    return None
