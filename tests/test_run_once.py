"""One call of a loss runs PyTorch's operator once, and what is raised meanwhile leaves as it is."""

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from losses import LOSSES, WITH_FUNCTIONS, Drawn, Loss, build, equal, several
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

import safeloss
from safeloss import functional as SF

Callee = Callable[..., Any]  # a loss, as a module or as a function


def modules(loss: Loss) -> tuple[Callee, Callee]:
    return build(loss, Drawn([], loss.options))


def functions(loss: Loss) -> tuple[Callee, Callee]:
    kernels = loss.kernel, loss.native_kernel
    ours, native = [functools.partial(kernel, **loss.options) for kernel in kernels]
    return ours, native


# Every loss as a module and, where there is one, as a function.
FACES = [(loss, modules) for loss in LOSSES] + [(loss, functions) for loss in WITH_FUNCTIONS]
over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
over_faces = pytest.mark.parametrize(
    ("loss", "faces"), FACES, ids=[f"{loss}-{faces.__name__}" for loss, faces in FACES]
)
over_inputs = pytest.mark.parametrize("normalised", [False, True], ids=["plain", "normalised"])


def batch(loss: Loss, n: int, normalised: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs for ours and for PyTorch's, and in ours an axis of size 1 that is too many."""
    torch.manual_seed(n)  # how often PyTorch's operators run may depend on the labels
    plain = loss.batch(n)
    plain[0].requires_grad_()
    loose = [
        x.unsqueeze(1) if normalised and 0 < position < loss.loose else x
        for position, x in enumerate(plain)
    ]
    return loose, plain


def states(ours: Callee, loss: Loss, normalised: bool = False) -> Iterator[list[Tensor]]:
    """Inputs for a first call, and then for a call of a signature that is known."""
    inputs, _ = batch(loss, 4, normalised)
    yield inputs
    with torch.no_grad():
        ours(*inputs)
        ours(*batch(loss, 5, normalised)[0])  # and so is its form
    yield inputs


MOST = 12  # places at which something is raised; the layers have more


class Stop(Exception):  # noqa: N818  # what somebody's hook raises is no error of a loss
    """An exception that no loss knows."""


class Counted:
    """What counts the times that it is asked, and raises `error` at one of them."""

    def __init__(self, at: int = 0, error: BaseException | None = None) -> None:
        super().__init__()
        self.at, self.error, self.count = at, Stop("once") if error is None else error, 0

    def ask(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.error


class Hooks(Counted):
    """Hooks on tensors that are saved for backward."""

    def __enter__(self) -> "Hooks":
        self.hooks = saved_tensors_hooks(self.pack, lambda tensor: tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.hooks.__exit__(*raised)

    def pack(self, tensor: Tensor) -> Tensor:
        self.ask()
        return tensor


class Operators(Counted, TorchDispatchMode):
    """A dispatch mode, as a memory budget is one, or an injector of faults."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ask()
        return func(*args, **(kwargs or {}))


class Functions(Counted, TorchFunctionMode):
    """A mode that sees the functions of PyTorch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if isinstance(func, type(Tensor.shape.__get__)):  # an attribute, which enters nothing
            return func(*args, **(kwargs or {}))
        self.ask()
        return func(*args, **(kwargs or {}))


def outcome(counted: Counted, call: Callee, inputs: list[Tensor]) -> tuple[Any, int]:
    """What was raised, if anything, and how often `counted` was asked."""
    try:
        with counted:
            call(*inputs)
    except Exception as raised:  # whatever it is, it is looked at
        return raised, counted.count
    return None, counted.count


@over_faces
@over_inputs
@pytest.mark.parametrize("kind", [Hooks, Operators, Functions])
def test_what_raises_in_the_middle_is_not_asked_again(loss, faces, normalised, kind) -> None:
    """At each of its places in a loss, at a first call and at a known one."""
    _, native = faces(loss)
    _, most = outcome(kind(), native, batch(loss, 4)[1])
    for at in range(1, min(most, MOST) + 1):
        ours, _ = faces(loss)
        for inputs in states(ours, loss, normalised):
            error = Stop()
            raised, count = outcome(kind(at, error), ours, inputs)
            assert raised is error
            assert count == at


@over_faces
@pytest.mark.parametrize("kind", [Hooks, Operators])
def test_as_much_is_asked_as_by_pytorch(loss, faces, kind) -> None:
    ours, native = faces(loss)
    _, expected = outcome(kind(), native, batch(loss, 4)[1])
    for inputs in states(ours, loss):
        assert outcome(kind(), ours, inputs) == (None, expected)


ERRORS = [
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("index out of bounds on the device"),  # as if values were to blame
    ValueError("a user's own"),
    NotImplementedError("no kernel on this backend"),
    KeyError("weight"),
    AttributeError("'NoneType' object has no attribute 'shape'"),
    TypeError("unhashable"),
    *([torch.OutOfMemoryError("out of memory")] if hasattr(torch, "OutOfMemoryError") else ()),
    KeyboardInterrupt(),
]


class Failing(TorchDispatchMode):
    """Every operator fails."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.count = error, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        raise self.error


@over_faces
@over_inputs
def test_an_operator_that_always_fails_is_entered_once(loss, faces, normalised) -> None:
    """Whatever the reason is: one try, and the very object comes out."""
    ours, native = faces(loss)
    reached = [error for error in ERRORS if reaches_us(native, loss, error)]
    assert len(reached) > 5
    for inputs in states(ours, loss, normalised):
        for error in reached:
            mode = Failing(error)
            with pytest.raises(type(error)) as caught, mode:
                ours(*inputs)
            assert caught.value is error
            assert mode.count == 1


def reaches_us(native: Callee, loss: Loss, error: BaseException) -> bool:
    """Not every error does: Python turns the TypeError of `var < 0` into one of its own."""
    inputs = loss.batch(4)
    with pytest.raises(type(error)) as caught, Failing(error):
        native(*inputs)
    return caught.value is error


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of Unix")
@over_faces
def test_a_signal_handler_that_raises(loss, faces) -> None:
    """A time limit or a preemption while a loss runs: the loss is left."""

    def handler(*_: object) -> None:
        raise TimeoutError("preempted")

    def pack(tensor: Tensor) -> Tensor:
        packed.append(tensor)
        if len(packed) == 1:
            signal.raise_signal(signal.SIGUSR1)
        return tensor

    ours, _ = faces(loss)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for inputs in states(ours, loss):
            packed: list[Tensor] = []
            hooks = saved_tensors_hooks(pack, lambda tensor: tensor)
            with pytest.raises(TimeoutError, match="preempted"), hooks:
                ours(*inputs)
            assert len(packed) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_distance_function_that_fails() -> None:
    """The error of a user's own function comes out as it is, and the function is asked once."""
    calls: list[int] = []

    def distance(one: Tensor, other: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == at:
            raise failure
        return (one - other).pow(2).sum(-1)

    inputs = torch.randn(3, 4, 2).unbind()
    faces = [
        safeloss.SafeTripletMarginWithDistanceLoss(distance_function=distance),
        functools.partial(SF.triplet_margin_with_distance_loss, distance_function=distance),
    ]
    for failure in (RuntimeError("a real failure"), IndexError("out of range"), TypeError("no")):
        for loss in faces:
            for at in (1, 2, 0, 1, 2):  # before the first call that ends well, and after it
                calls.clear()
                if not at:
                    loss(*inputs)
                    continue
                with pytest.raises(type(failure)) as caught:
                    loss(*inputs)
                assert caught.value is failure
                assert len(calls) == at


def test_a_distance_function_that_asks_a_loss_itself() -> None:
    """Calls of ours inside a call of ours."""

    def distance(one: Tensor, other: Tensor) -> Tensor:
        return SF.mse_loss(one, other, reduction="none").mean(-1)

    inputs = torch.randn(3, 4, 2).unbind()
    expected = F.triplet_margin_with_distance_loss(*inputs, distance_function=distance)
    loss = safeloss.SafeTripletMarginWithDistanceLoss(distance_function=distance)
    for _ in range(2):
        assert torch.equal(loss(*inputs), expected)


@over_losses
def test_a_hook_that_calls_the_same_loss(loss: Loss) -> None:
    ours, native = modules(loss)
    depth = []

    def pack(tensor: Tensor) -> Tensor:
        if len(depth) < 3:
            depth.append(1)
            with torch.no_grad():
                ours(*loss.batch(5 + len(depth)))
        return tensor

    for _ in range(2):
        depth.clear()
        inputs, _ = batch(loss, 4)
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            value = ours(*inputs)
        assert depth
        assert equal(value, native(*inputs))


# Memory ------------------------------------------------------------------------------------------

ELEMENTWISE = [
    loss for loss in WITH_FUNCTIONS if len({x.shape for x in loss.batch(2)} | {(2, 1)}) == 1
]


@pytest.mark.parametrize("loss", ELEMENTWISE, ids=str)
def test_out_of_memory_stays_what_it_is(loss: Loss) -> None:
    """Trainers that shrink the batch look for RuntimeError and its text."""
    huge = [torch.zeros(1).expand(1 << 42)] * len(loss.batch(2))
    options = {**loss.options, "reduction": "none"}
    for face in (
        loss.safe(**options, check_values="never"),
        functools.partial(loss.kernel, **options),
    ):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="allocate") as caught:
                face(*huge)
            assert not isinstance(caught.value, safeloss.SafeLossError)
            face(*loss.batch(3))
            face(*loss.batch(4))


@over_faces
def test_inference_tensors_keep_their_error(loss, faces) -> None:
    """They cannot be saved for backward, which is said in PyTorch's words and type."""
    ours, native = faces(loss)
    for _ in range(2):
        inputs, _ = batch(loss, 4)
        with torch.inference_mode():
            frozen = [inputs[0], *[x.clone() for x in inputs[1:]]]
        expected = None
        try:
            native(*frozen)
        except RuntimeError as error:
            expected = error
        if expected is None:
            assert equal(ours(*frozen), native(*frozen))
        else:
            with pytest.raises(RuntimeError, match="Inference tensors") as caught:
                ours(*frozen)
            assert type(caught.value) is type(expected)
            assert str(caught.value) == str(expected)
        ours(*inputs)


# Checkpoints -------------------------------------------------------------------------------------


def gradients(run: Callee, face: Callee, inputs: list[Tensor]) -> list[Tensor]:
    leaf = inputs[0].detach().clone().requires_grad_()
    value = several(run(face, leaf, *inputs[1:]))[-1]
    value.backward()
    assert leaf.grad is not None
    return [value.detach(), leaf.grad]


def reentrant(face: Callee, *inputs: Tensor) -> Any:
    return checkpoint(face, *inputs, use_reentrant=True)


def plain(face: Callee, *inputs: Tensor) -> Any:
    return checkpoint(face, *inputs, use_reentrant=False)


def selective(face: Callee, *inputs: Tensor) -> Any:
    kept = [torch.ops.aten.exp.default, torch.ops.aten._log_softmax.default]
    contexts = functools.partial(create_selective_checkpoint_contexts, kept)
    return checkpoint(face, *inputs, use_reentrant=False, context_fn=contexts)


def wrapped(face: Callee, *inputs: Tensor) -> Any:
    wrapper = pytest.importorskip("torch.distributed.algorithms._checkpoint.checkpoint_wrapper")
    return wrapper.checkpoint_wrapper(face)(*inputs)


def offloaded(face: Callee, *inputs: Tensor) -> Any:
    with torch.autograd.graph.save_on_cpu():
        return face(*inputs)


RUNS = [  # each with plain or with normalised inputs
    (plain, False),
    (plain, True),
    (reentrant, True),
    (selective, True),
    (wrapped, False),
    (offloaded, True),
]


@over_faces
@pytest.mark.parametrize(("run", "normalised"), RUNS)
def test_trains_under_activation_checkpoints(loss, faces, run, normalised) -> None:
    if run is wrapped and faces is functions:
        pytest.skip("wraps modules")
    ours, native = faces(loss)
    for n in (4, 4, 5, 6):  # a first call, a known one, and two of a known form
        loose, meant = batch(loss, n, normalised)
        assert all(map(torch.equal, gradients(run, ours, loose), gradients(run, native, meant)))


@over_faces
def test_trains_where_a_checkpoint_ends_early_or_late(loss, faces) -> None:
    """The first run is not the last one: a first call and a known one save the same tensors."""
    ours, native = faces(loss)
    inputs, _ = batch(loss, 4)
    leaf = inputs[0]
    value = several(plain(ours, *inputs))[-1]
    with torch.no_grad():
        ours(*batch(loss, 6)[0])
    first = torch.autograd.grad(value, leaf)
    assert torch.equal(first[0], torch.autograd.grad(several(native(*inputs))[-1], leaf)[0])


@pytest.mark.parametrize(
    "loss", [safeloss.SafeCrossEntropyLoss(), SF.cross_entropy], ids=["module", "function"]
)
def test_chunks_of_a_head_with_its_loss(loss: Callee) -> None:
    """Head and loss are run again chunk by chunk, to save memory."""
    head, hidden, labels = nn.Linear(4, 7), torch.randn(12, 4), torch.randint(0, 7, (12,))

    def gradient(loss: Callee) -> Tensor:
        head.zero_grad()
        for h, y in zip(hidden.chunk(3), labels.chunk(3)):
            step = checkpoint(lambda h, y: loss(head(h), y) / 3, h, y, use_reentrant=False)
            step.backward()
        return head.weight.grad.clone()

    assert torch.equal(gradient(loss), gradient(F.cross_entropy))


# Ours, where a rule is broken --------------------------------------------------------------------


def test_what_pytorch_notices_of_a_broken_rule_is_said_by_us() -> None:
    loss, x, y = safeloss.SafeCrossEntropyLoss(), torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss(x, y)
    wrong = torch.tensor([0, 1, 7, 0])
    mode = Operators()
    with pytest.raises(safeloss.ValueRangeError, match="must be class indices"), mode:
        loss(x, wrong)
    native = Operators()
    with contextlib.suppress(IndexError), native:
        nn.CrossEntropyLoss()(x, wrong)
    assert mode.count == native.count
