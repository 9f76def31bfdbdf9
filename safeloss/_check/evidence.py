"""What is found out about a program by running it, each thing once and when it is asked for."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._audit import Audit, audit
from safeloss._check.batches import replaced, tensors
from safeloss._check.levels import Levels, levels
from safeloss._check.program import (
    Leaves,
    Program,
    Run,
    UnusableError,
    evaluating,
    in_place_of,
    loss_of,
    norm,
)
from safeloss._check.recorder import LossCall
from safeloss._trace import Trace
from safeloss.errors import SafeLossError

STEPS = 40  # of a training on the one batch
RATES = (1e-2, 1e-3, 1e-1)  # learning rates of Adam, tried if the user's optimizer does not succeed
_MOST_ALONE = 16  # samples whose gradients are measured one by one


class Fit(NamedTuple):
    """A training on the one batch."""

    optimizer: str
    first_loss: float
    last_loss: float  # the least of the last steps
    steps: int
    beats_constant: bool  # so low that the model must have looked at its inputs
    decreased: bool


class Norm(NamedTuple):
    """The gradient norm at one batch size, and that of the mean of single-sample gradients."""

    batch_size: int
    gradient_norm: float
    healthy_gradient_norm: float


class Evidence:
    """Measurements for the checks, each made when it is first needed, and kept."""

    def __init__(
        self,
        program: Program,
        run: Run | None,
        error: Exception | None,
        history: Trace,
    ) -> None:
        self.program, self._run, self.error, self.history = program, run, error, history
        self.calls = program.calls  # the loss calls of the step, or those before it raised
        self.notes: list[str] = []
        self.alive: set[str] = set()  # parameters that had a gradient other than 0

    @property
    def run(self) -> Run:
        """The step, which only the checks ask for that come after it has run."""
        if self._run is None:
            raise UnusableError("the step does not run")
        return self._run

    @property
    def run_or_none(self) -> Run | None:
        return self._run

    @functools.cached_property
    def gradients(self) -> dict[str, Tensor | None]:
        """The gradient of every parameter that is to be trained, by name."""
        named = self.program.parameters()
        if not self.run.value.requires_grad or not named:
            return dict.fromkeys(named)
        found = torch.autograd.grad(
            self.run.value, list(named.values()), retain_graph=True, allow_unused=True
        )
        dense = [g.to_dense() if g is not None and g.is_sparse else g for g in found]
        self.alive |= {name for name, g in zip(named, dense) if g is not None and g.any()}
        return dict(zip(named, dense))

    @functools.cached_property
    def other_leaves(self) -> list[Tensor]:
        """What a backward pass reaches beside the model, the loss and the batch: an image that is
        optimised, say."""
        known = [*self.program.parameters().values(), *tensors(self.run.batch), self.run.value]
        return [leaf for leaf in Leaves(self.run.value) if all(leaf is not k for k in known)]

    @functools.cached_property
    def main_call(self) -> LossCall | None:
        """The one call of a known loss that trains the model."""
        trained = [
            c for c in self.run.calls if isinstance(c.input, Tensor) and c.input.requires_grad
        ]
        return trained[0] if len(trained) == 1 else None

    @functools.cached_property
    def levels(self) -> Levels | None:
        return None if self.main_call is None else levels(self.main_call)

    @functools.cached_property
    def audit(self) -> Audit | None:
        """What samples do to one another in the loss, with the model's outputs as its input."""
        found = self._audit_of_outputs()
        return found if found is not None else self._audit_of_call()

    def _audit_of_outputs(self) -> Audit | None:
        program, run = self.program, self.run
        axis = program.axis
        outputs = [
            leaf
            for leaf in tensors(run.outputs)
            if leaf.is_floating_point() and axis.of(leaf) is not None and leaf.requires_grad
        ]
        if not outputs or axis.size < 2:
            return None
        places = {id(leaf): k for k, leaf in enumerate(outputs)}
        used = self._used_leaves(outputs)
        if used is None:
            return None

        def with_outputs(given: Sequence[Tensor], batch: Any) -> Tensor:
            return self._loss_from_outputs(
                lambda leaf: given[places[id(leaf)]] if id(leaf) in places else leaf, batch
            )

        first, *others = outputs

        def loss(input: Tensor, *rest: Tensor) -> Tensor:
            swapped = dict(zip(used, rest))
            batch = _with_leaves(program.batch, swapped)
            given = [input.movedim(0, axis.of(first) or 0), *rest[len(used) :]]
            return with_outputs(given, batch)

        batch_leaves = tensors(program.batch)
        rest = [batch_leaves[k].detach() for k in used] + [o.detach() for o in others]
        if not rest:
            return None
        return _audited(loss, first.detach().movedim(axis.of(first) or 0, 0), rest)

    def _loss_from_outputs(self, put: Any, batch: Any) -> Tensor:
        """The loss of the step for other outputs of the model: each tensor changed by `put`."""

        def leaf(value: Any) -> Any:
            return put(value) if isinstance(value, Tensor) else value

        program = self.program
        with in_place_of(program.model, replaced(self.run.outputs, leaf)):
            return loss_of(program.form.step(program.model, batch))

    def _used_leaves(self, outputs: Sequence[Tensor]) -> list[int] | None:
        """Which tensors of the batch the loss uses beside the outputs; None if it does not use
        the outputs, as of a model that computes its loss itself."""
        program = self.program
        copies = {id(leaf): leaf.detach().clone().requires_grad_() for leaf in outputs}

        def measured(batch: Any) -> list[Tensor] | None:
            program.fresh()
            try:
                value = self._loss_from_outputs(
                    lambda leaf: copies.get(id(leaf), leaf.detach()), batch
                )
            except Exception:  # whatever it raises, there is nothing to measure
                return None
            value = value.mean()
            if not value.requires_grad:
                return None
            gradients = torch.autograd.grad(value, list(copies.values()), allow_unused=True)
            if all(gradient is None for gradient in gradients):
                return None
            return [value.detach(), *[g for g in gradients if g is not None]]

        base = measured(program.batch)
        if base is None:
            return None
        used = []
        for place, leaf in enumerate(tensors(program.batch)):
            if program.axis.of(leaf) is None:
                continue
            axis = program.axis.of(leaf) or 0
            for other in (
                leaf.detach().roll(1, axis),
                torch.zeros_like(leaf),
                torch.ones_like(leaf),
            ):
                now = measured(_with_leaves(program.batch, {place: other}))
                if now is None or any(not torch.equal(a, b) for a, b in zip(now, base)):
                    used.append(place)
                    break
        return used

    def _audit_of_call(self) -> Audit | None:
        """The audit of the one loss call inside a model that computes its own loss."""
        call = self.main_call
        if call is None or not isinstance(call.target, Tensor) or not call.input.dim():
            return None
        native, target = call.signature.native, call.signature.reader.target
        first = call.signature.names[0]
        if native is None or len(call.input) < 2:
            return None

        given = {p.name: call.named[p.name] for p in call.signature.parameters if p.native}

        def loss(input: Tensor, other: Tensor) -> Tensor:
            return native(**{**given, first: input, target: other})

        return _audited(loss, call.input.detach(), [call.target.detach()])

    @functools.cached_property
    def norms(self) -> list[Norm]:
        """The gradient norm for 1, 2, 4, ... samples, beside that of the mean of their own."""
        program = self.program
        count = min(program.axis.size, _MOST_ALONE)
        sizes = [2**k for k in range(count.bit_length()) if 2**k <= count]
        train = not self._has_gradients_in_eval()
        total: dict[str, Tensor] = {}
        found = []
        for sample in range(count):
            alone = program.gradients(program.axis.take(program.batch, [sample]), train=train)
            for name, gradient in alone.items():
                if gradient is not None:
                    total[name] = total.get(name, torch.zeros_like(gradient)) + gradient
            size = sample + 1
            if size in sizes:
                part = program.axis.take(program.batch, range(size))
                together = norm(list(program.gradients(part, train=train).values()))
                found.append(Norm(size, together, norm(list(total.values())) / size))
        return found

    def _has_gradients_in_eval(self) -> bool:
        try:
            return any(g is not None for g in self.program.gradients(train=False).values())
        except Exception:  # whatever a model raises in evaluation mode
            return False

    @functools.cached_property
    def trainings(self) -> list[Fit]:
        """Trainings on the one batch: by the user's optimizer, and by Adam until one succeeds."""
        program = self.program
        found = []
        if program.optimizer is not None:
            name = type(program.optimizer).__name__
            rate = program.optimizer.param_groups[0].get("lr", "")
            said = f"your {name}(lr={rate:g})" if isinstance(rate, float) else f"your {name}"
            try:
                found.append(self._fit(program.optimizer, said))
            except Exception as error:  # of an optimizer that cannot be copied, such as LBFGS
                self.notes.append(f"A copy of your {name} raises {type(error).__name__}.")
        sparse = any(g is not None and g.is_sparse for g in program.gradients().values())
        for rate in RATES:
            if (found and found[-1].beats_constant) or program.out_of_time:
                break
            kind = torch.optim.SGD if sparse else torch.optim.Adam  # Adam takes no sparse gradients
            optimizer = kind(list(program.parameters().values()), lr=rate)
            found.append(self._fit(optimizer, f"{kind.__name__}(lr={rate:g})"))
        return found

    def _fit(self, optimizer: torch.optim.Optimizer, said: str) -> Fit:
        program, values = self.program, list[float]()
        program.fresh()

        def closure() -> Tensor:
            optimizer.zero_grad()
            run = program.run(fresh=False)
            run.value.backward()
            values.append(self._loss_number(run))
            return run.value

        for _ in range(STEPS):
            optimizer.step(closure)  # type: ignore[arg-type]  # a closure may give a tensor
            named = program.parameters().items()
            self.alive |= {n for n, p in named if p.grad is not None and bool(p.grad.any())}
            if program.out_of_time or not all(map(math.isfinite, values[-1:])):
                break
            if self._beats_constant(values[0], values[-1]) and values[-1] < values[0] / 2:
                break
        optimizer.zero_grad()
        program.fresh()
        begun, ended = values[0], min(values[-3:])
        return Fit(
            said, begun, ended, len(values), self._beats_constant(begun, ended), ended < begun
        )

    def _loss_number(self, run: Run) -> float:
        """The loss as `levels` computes it, or the value of the step where it is not known."""
        if self.levels is not None and self.main_call is not None:
            calls = [c for c in run.calls if c.signature is self.main_call.signature]
            if calls and (now := levels(calls[0])) is not None:
                return now.now
        return float(run.value.detach())

    def _beats_constant(self, begun: float, ended: float) -> bool:
        """Whether the loss has fallen so far that the model must have looked at its inputs.

        The limit is the loss of the best constant answer. If that is unknown, or almost 0, any
        decrease counts.
        """
        if self.levels is None:
            return ended < begun
        if self.levels.constant < 1e-3:
            return ended < begun or ended < 1e-3
        return ended < self.levels.constant

    def mixed_by_the_model(self) -> bool | None:
        """Whether another sample changes the outputs of the rest, in evaluation mode."""
        program, axis = self.program, self.program.axis
        if axis.size < 2:
            return None

        def outputs(batch: Any) -> list[Tensor]:
            program.fresh()
            with evaluating(program.model):
                found = tensors(program.run(batch, fresh=False).outputs)
            return [
                leaf.detach()
                for leaf in found
                if leaf.is_floating_point() and axis.of(leaf) is not None
            ]

        base = outputs(program.batch)
        changed = outputs(axis.moved(program.batch, 0, 1))
        if not base or len(base) != len(changed):
            return None
        for one, other in zip(base, changed):
            rest = torch.arange(1, axis.size, device=one.device)
            a, b = [t.index_select(axis.of(t) or 0, rest) for t in (one, other)]
            size = float(a.nan_to_num(0.0, 0.0, 0.0).abs().max())
            if not torch.allclose(a, b, rtol=1e-3, atol=1e-5 * size, equal_nan=True):
                return True
        return False


def _audited(loss: Any, input: Tensor, rest: list[Tensor]) -> Audit | None:
    try:
        return audit(loss, input, *rest)
    except (SafeLossError, ValueError):
        return None


def _with_leaves(batch: Any, swapped: dict[int, Tensor]) -> Any:
    """The batch with some of its tensors exchanged, by their places among all."""
    places = itertools.count()

    def put(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        place = next(places)
        return swapped.get(place, leaf).clone()

    return replaced(batch, put)
