"""A training step as an experiment: run on copies, from one state, as often as it takes."""

import contextlib
import copy
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from safeloss._audit.probing import Generators
from safeloss._audit.snapshot import Snapshot
from safeloss._check.batches import Axis, cloned, same, tensors
from safeloss._check.forms import Step, form_of
from safeloss._check.recorder import LossCall, modules_seen, recorded
from safeloss._progress import Progress


class Setting(NamedTuple):
    """What all runs share."""

    generators: Generators
    progress: Progress
    seconds: float


class UnusableError(Exception):
    """What a step gave is no loss."""


class Run(NamedTuple):
    """What one step came to."""

    value: Tensor  # what an optimizer lowers, with its graph
    shape: tuple[int, ...]  # as the step gave it
    outputs: Any  # of the model; None where the model itself was not called
    calls: list[LossCall]
    batch: Any  # the copy that was used
    changed: str  # "model" or "step", whichever changed the batch in place, or nothing
    made: Mapping[int, tuple[Tensor, nn.Module]]  # which module made a tensor


class Program:
    """A copy of the model with what trains it; every run begins from the same state.

    Where the model cannot be copied, or the step trains the original whatever model it is given,
    the original is used, and put back afterwards.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        loss: Any,
        step: Step | None,
        optimizer: torch.optim.Optimizer | None,
        dim: int,
        setting: "Setting",
    ) -> None:
        self.axis = Axis(batch, dim)
        self.batch, self.calls = batch, list[LossCall]()
        self.given_optimizer = optimizer
        self._given, self._setting = (model, loss, step), setting
        self._before: Snapshot | None = None
        self._deadline = time.monotonic() + setting.seconds
        try:
            copies = copy.deepcopy((model, loss, optimizer))
        except Exception:  # of locks, of tensors inside a graph, ...: nobody says what they raise
            copies = (model, loss, None)
        self._use(*copies)

    def _use(self, model: nn.Module, loss: Any, optimizer: torch.optim.Optimizer | None) -> None:
        self.model, self.optimizer = model, optimizer
        self.form = form_of(model, self.batch, loss, self._given[2])
        if not self.copied:
            self._before = Snapshot((model, loss))
        if not model.training:
            model.train()  # as every training loop does before its first epoch
        if any(is_lazy(parameter) for parameter in model.parameters()):
            self._setting.generators.restore()
            self.form.step(model, cloned(self.batch))
        self._state = Snapshot((model, loss, self.form.step))

    def close(self) -> None:
        """Put the original back, where it was used."""
        if self._before is not None:
            self._before.restore()

    @property
    def copied(self) -> bool:
        return self.model is not self._given[0]

    def use_the_original(self, value: Tensor) -> bool:
        """Do so if that is what the step trains, whatever model it is given."""
        reached = Leaves(value)
        if not self.copied or any(p in reached for p in self.parameters().values()):
            return False
        if not any(p in reached for p in self._given[0].parameters()):
            return False
        self._use(*self._given[:2], None)
        return True

    @property
    def out_of_time(self) -> bool:
        """Whether the time is spent."""
        return time.monotonic() > self._deadline

    def parameters(self) -> dict[str, Tensor]:
        """Those that are to be trained."""
        return _trained(self.model, self.form.loss)

    def given_parameters(self) -> dict[str, Tensor]:
        """The same, of the model and the loss that the user gave."""
        return _trained(*self._given[:2])

    def fresh(self) -> None:
        """Put everything back to where it was in the beginning."""
        self._state.restore()
        self._setting.generators.restore()

    def restart_generators(self) -> None:
        """Draw the same random numbers again, whatever else has changed."""
        self._setting.generators.restore()

    def run(self, batch: Any = None, *, fresh: bool = True) -> Run:
        """One step on a copy of `batch`, from the beginning or, if not `fresh`, from where the
        last one ended."""
        self._setting.progress.step()
        # Weights that autocast has cast are kept until the outermost context ends, which is ours.
        torch.clear_autocast_cache()
        if fresh:
            self.fresh()
        given = self.batch if batch is None else batch
        used = cloned(given)
        seen: list[Any] = []
        changed: list[str] = []

        def before(module: nn.Module, args: Any) -> None:
            if not changed and _changed(given, used):
                changed.append("step")

        def after(module: nn.Module, args: Any, outputs: Any) -> None:
            seen.append(outputs)
            if not changed and _changed(given, used):
                changed.append("model")

        with (
            _hooked(self.model, before, after),
            recorded() as calls,
            modules_seen(self.model) as made,
        ):
            self.calls = calls  # to be asked for where the step raises
            result = self.form.step(self.model, used)
        if not changed and _changed(given, used):
            changed.append("step")
        value = loss_of(result)
        shape = tuple(value.shape)
        value = value if not shape else value.mean()
        outputs = seen[0] if seen else None
        return Run(value, shape, outputs, calls, used, "".join(changed[:1]), made)

    def gradients(self, batch: Any = None, *, train: bool = True) -> dict[str, Tensor | None]:
        """Of every parameter, from the beginning; None where none was reached."""
        self.fresh()
        with evaluating(self.model, not train):
            value = self.run(batch, fresh=False).value
            named = self.parameters()
            if not value.requires_grad:
                return dict.fromkeys(named)
            found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
        return dict(zip(named, [g if g is None else g.detach() for g in found]))


def _trained(model: nn.Module, loss: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    known = {id(p) for p in found.values()}
    if isinstance(loss, nn.Module):
        named = {f"loss.{name}": p for name, p in loss.named_parameters() if p.requires_grad}
        found |= {name: p for name, p in named.items() if id(p) not in known}
    return found


class Leaves:
    """The tensors whose `.grad` a backward pass would write."""

    def __init__(self, value: Tensor) -> None:
        self._ids: dict[int, Tensor] = {}
        open_nodes, seen = [value.grad_fn], set()
        while open_nodes:
            node: Any = open_nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if (leaf := getattr(node, "variable", None)) is not None:
                self._ids[id(leaf)] = leaf
            open_nodes += [following for following, _ in node.next_functions]
        if value.grad_fn is None and value.requires_grad:
            self._ids[id(value)] = value

    def __contains__(self, tensor: object) -> bool:
        return id(tensor) in self._ids

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._ids.values())


def loss_of(result: Any) -> Tensor:
    """The loss in what a step gave: alone, by the name "loss", or before other values."""
    chosen = result
    if isinstance(result, Mapping):
        chosen = result.get("loss")
    elif not isinstance(result, Tensor) and hasattr(result, "loss"):
        chosen = result.loss
    elif isinstance(result, (tuple, list)) and result:
        chosen = result[0]
    if not isinstance(chosen, Tensor):
        kind = "None" if result is None else f"a {type(result).__name__}"
        raise UnusableError(f"the step gives {kind}, and no tensor that is the loss")
    if not (chosen.is_floating_point() and chosen.numel()):
        raise UnusableError(f"the loss is {chosen.dtype} {list(chosen.shape)}, and no number")
    return chosen


@contextlib.contextmanager
def evaluating(model: nn.Module, really: bool = True) -> Iterator[None]:
    """The model in evaluation mode, and each of its modules as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    if really:
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def in_place_of(model: nn.Module, outputs: Any) -> Iterator[None]:
    """Calls of the model give `outputs`, and compute nothing."""
    vars(model)["forward"] = lambda *args, **kwargs: outputs
    try:
        yield
    finally:
        del vars(model)["forward"]


@contextlib.contextmanager
def _hooked(model: nn.Module, before: Any, after: Any) -> Iterator[None]:
    """With both called at each call of the model; TorchScript has no hooks."""
    if isinstance(model, torch.jit.ScriptModule):
        yield
        return
    handles = model.register_forward_pre_hook(before), model.register_forward_hook(after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Compiled models run as they are written: nothing is seen inside of a compiled one."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _changed(given: Any, used: Any) -> bool:
    return any(not same(a, b) for a, b in zip(tensors(given), tensors(used)))


def norm(gradients: Sequence[Tensor | None]) -> float:
    """The length of all gradients together."""
    squares = [float(g.detach().double().square().sum()) for g in gradients if g is not None]
    return sum(squares) ** 0.5
