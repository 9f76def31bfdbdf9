"""The laws, over every loss in `losses.LOSSES` and `losses.OWN`."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from losses import LOSSES, OWN, WITH_FUNCTIONS, Drawn, Loss, build, calls, run, same, several
from torch import Tensor, nn
from torch.nn import Module
from torch.utils._python_dispatch import TorchDispatchMode

import safeloss

# What PyTorch reads on the host: the variance, the lengths, the classes that occur.
READ_BY_NATIVE = (nn.GaussianNLLLoss, nn.CTCLoss, nn.AdaptiveLogSoftmaxWithLoss)
over_losses = pytest.mark.parametrize("loss", [*LOSSES, *OWN], ids=str)


@st.composite
def normalisable(draw: st.DrawFn, loss: Loss) -> tuple[Drawn, list[Tensor]]:
    """A call that PyTorch accepts, and the same targets with axes of size 1 put in or left out."""
    drawn = draw(calls(loss))
    loose = []
    for position, tensor in enumerate(drawn.inputs[1:], 1):
        shape = list(tensor.shape)
        if position >= loss.loose:
            loose.append(tensor)
            continue
        if draw(st.booleans()) and 1 in shape:
            shape.remove(1)  # the first one: of the batch, where there is a batch of one
        else:
            for _ in range(draw(st.integers(1, 2))):
                shape.insert(draw(st.integers(1 if loss.pinned else 0, max(1, len(shape)))), 1)
        loose.append(tensor.reshape(shape))
    return drawn, [drawn.inputs[0], *loose]


@over_losses
@given(data=st.data())
def test_bitwise_native(loss: Loss, data: st.DataObject) -> None:
    drawn = data.draw(calls(loss))
    safe, native = build(loss, drawn)
    expected = run(native, drawn.inputs, loss.differentiable)
    assert same(run(safe, drawn.inputs, loss.differentiable), expected)
    assert same(run(safe, drawn.inputs, loss.differentiable), expected), "the second call is a hit"


@over_losses
@given(data=st.data())
def test_normalised_equals_native_on_what_was_meant(loss: Loss, data: st.DataObject) -> None:
    drawn, loose = data.draw(normalisable(loss))
    safe, native = build(loss, drawn)
    expected = run(native, drawn.inputs, loss.differentiable)
    for _ in range(2):
        value, *grads = run(safe, loose, loss.differentiable)
        assert same([value], expected[:1])
        assert same([g.reshape(e.shape) for g, e in zip(grads, expected[1:])], expected[1:])


@pytest.mark.parametrize("loss", WITH_FUNCTIONS, ids=str)
@given(data=st.data())
def test_the_function_is_the_module(loss: Loss, data: st.DataObject) -> None:
    drawn, loose = data.draw(normalisable(loss))
    safe, _ = build(loss, drawn)

    def function(*inputs: Tensor) -> Tensor:
        return loss.kernel(*inputs, **drawn.options)

    assert same(run(function, loose, loss.differentiable), run(safe, loose, loss.differentiable))


@over_losses
@given(data=st.data())
def test_the_unreduced_shape_is_that_of_native(loss: Loss, data: st.DataObject) -> None:
    drawn, loose = data.draw(normalisable(loss))
    if "reduction" in drawn.options:
        drawn.options["reduction"] = "none"
    safe, native = build(loss, drawn)
    assert several(safe(*loose))[0].shape == several(native(*drawn.inputs))[0].shape


class Operation(NamedTuple):
    """What is dispatched, on which tensors."""

    name: str
    kinds: tuple[tuple[torch.Size, torch.dtype], ...]
    strides: tuple[tuple[int, ...], ...]


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Operation] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        leaves = torch.utils._pytree.tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        kinds = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        self.seen.append(Operation(str(func), kinds, tuple(t.stride() for t in tensors)))
        return func(*args, **(kwargs or {}))


def step(module: Module, inputs: list[Tensor]) -> tuple[list[Operation], int]:
    """The operations of forward and backward, and the bytes that are kept in between."""
    leaf = inputs[0].detach().clone().requires_grad_()
    kept = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    module.zero_grad()  # of a layer: to be set, not added to
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, Operations() as mode:
        several(module(leaf, *inputs[1:]))[-1].sum().backward()
    return mode.seen, sum(kept)


VIEWS = ("unsqueeze", "squeeze", "view", "movedim", "permute", "_to_copy", "_reshape_alias")


@over_losses
@given(data=st.data())
def test_same_operations(loss: Loss, data: st.DataObject) -> None:
    """The proof that needs no clock: equal operations on equal inputs are equal kernels."""
    drawn, loose = data.draw(normalisable(loss))
    safe, native = build(loss, drawn)
    expected, kept = step(native, drawn.inputs)
    for _ in range(2):  # the second call takes the short way
        assert step(safe, drawn.inputs) == (expected, kept)
    for _ in range(2):
        operations, kept_of_loose = step(safe, loose)
        assert kept_of_loose == kept
        extra = [operation[:2] for operation in operations]  # a view may have other strides
        for operation in expected:
            extra.remove(operation[:2])
        assert len(extra) <= len(loose) - 1
        assert all(name.removeprefix("aten.").startswith(VIEWS) for name, _ in extra)


@over_losses
@given(data=st.data())
def test_nothing_waits_for_the_device(loss: Loss, data: st.DataObject) -> None:
    drawn, loose = data.draw(normalisable(loss))
    safe, native = build(loss, drawn)
    host_syncs = [
        [operation for operation in step(*called)[0] if "local_scalar" in operation.name]
        for called in ((native, drawn.inputs), (safe, loose), (safe, loose))
    ]
    assert len(host_syncs[1]) == len(host_syncs[2]) == len(host_syncs[0])
    if loss.native not in READ_BY_NATIVE:
        assert not host_syncs[0]


def call(loss: Loss, shape, other, dtype: torch.dtype, reduction: str) -> Tensor:
    """The kernel on zeros of these shapes, all but the first having the other one."""
    count = len(loss.batch(2)) - 1
    return loss.kernel(
        torch.zeros(shape),
        *[torch.zeros(other, dtype=dtype) for _ in range(count)],
        reduction=reduction,
    )


def is_refused_by_torch(error: RuntimeError) -> bool:
    """Whether PyTorch itself refuses the dtypes of a call that fits, in its own words."""
    return str(error).startswith("kl_div: Integral inputs not supported")


over_aligned = pytest.mark.parametrize("loss", [x for x in WITH_FUNCTIONS if x.loose > 1], ids=str)
AXES = st.sampled_from(["B", "C", "T", "1"])


@over_aligned
@given(
    layouts=st.tuples(st.lists(AXES, max_size=4).map(tuple), st.lists(AXES, max_size=4).map(tuple)),
    target_dtype=st.sampled_from([torch.float32, torch.int64]),
    sizes=st.tuples(st.integers(2, 5), st.integers(2, 5)),
)
def test_the_batch_size_never_decides(loss, layouts, target_dtype, sizes) -> None:
    def verdict(batch: int) -> str:
        table = {"B": batch, "C": sizes[0], "T": sizes[1], "1": 1}
        shapes = [[table[axis] for axis in layout] for layout in layouts]
        try:
            call(loss, shapes[0], shapes[1], target_dtype, "sum")
        except safeloss.AmbiguousLayoutError:
            return "ambiguous"
        except (safeloss.SafeLossError, safeloss.SuspiciousInputWarning):
            return "refused"  # or with a warning: one class, and all labels are 0
        except RuntimeError as error:
            if not is_refused_by_torch(error):
                raise
            return "refused"
        return "accepted"

    if layouts[0][:1] != ("B",) or "B" in layouts[0][1:]:
        return  # B is the batch axis
    if loss.pinned and len(layouts[0]) == 1:
        return  # a single axis holds the classes
    generic = {verdict(batch) for batch in (11, 13, 17)}
    assert len(generic) == 1
    if generic == {"accepted"}:
        square = sizes[0] == sizes[1]
        assert verdict(1) in (("accepted", "ambiguous") if square else ("accepted",))
        assert verdict(sizes[0]) in ("accepted", "ambiguous")
        assert verdict(sizes[1]) in ("accepted", "ambiguous")


SHAPES = [
    *itertools.product((1, 2, 3), repeat=0),
    *itertools.product((1, 2, 3), repeat=1),
    *itertools.product((1, 2, 3), repeat=2),
    *itertools.product((1, 2), repeat=3),
]


@over_aligned
def test_no_silent_broadcast(loss: Loss) -> None:
    """Over all small shapes: what is accepted pairs as many targets as there are."""
    for shape, other in itertools.product(SHAPES, SHAPES):
        for dtype in (torch.float32, torch.int64):
            try:
                value = call(loss, shape, other, dtype, "none")
            except (safeloss.SafeLossError, safeloss.SuspiciousInputWarning):
                continue
            except RuntimeError as error:
                if not is_refused_by_torch(error):
                    raise
                continue
            assert value.numel() <= math.prod(shape)
            assert math.prod(other) in (math.prod(shape), value.numel()), (shape, other)


@over_losses
@pytest.mark.parametrize("batch", [4, 2048])
def test_a_refusal_of_any_size_is_ours(loss: Loss, batch: int) -> None:
    """What PyTorch would do is asked on stand-ins, which have errors of their own."""
    inputs = loss.batch(batch)
    inputs[1] = inputs[1][..., None, None].expand(*inputs[1].shape, 2, 3)
    with pytest.raises(safeloss.SafeLossError):
        loss.safe(**loss.options)(*inputs)
