"""Which activation a tensor comes out of, told by its autograd graph alone.

`grad_fn` is followed back through operations that leave every number as it is (views, casts,
clamps, ...), and the axis of the classes is followed with it. Only the sizes and axes that a node
has saved are looked at, never a saved tensor: so no number is read, no hook runs, and nothing is
kept alive.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor
from torch.autograd.function import BackwardCFunction

_MOST_STEPS = 32  # a head has a handful of views behind it


class Origin(NamedTuple):
    """What a tensor comes out of."""

    known: bool  # else nothing is known: without a graph, or past a function that hides it
    activation: str = ""  # "sigmoid", "softmax", "log-sigmoid", "log-softmax"; "" is none of them
    axis: int | None = None  # the axis that a softmax was taken over, in its own output
    over_classes: bool | None = None  # whether that holds the classes; None if it cannot be told
    place: str = ""  # where it was applied, if a trace saw it


UNKNOWN = Origin(known=False)
_OTHER = Origin(known=True)

# The axes of a tensor, and the one of the classes; None where they cannot be followed any more.
_State: TypeAlias = tuple[tuple[int, ...] | None, int | None]
_LOST: _State = (None, None)

# Nodes are called "SoftmaxBackward0"; the number tells overloads apart.
_NAME = re.compile(r"(\w+)Backward\d+")
_ACTIVATIONS = {
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "sigmoid",
    "Softmax": "softmax",
    "SafeSoftmax": "softmax",
    "LogSigmoid": "log-sigmoid",
    "LogSoftmax": "log-softmax",
}
_PLACE = "safeloss_place"  # in the metadata of a node
_SAME = ("Alias", "Clamp", "ClampMax", "ClampMin", "Clone", "NanToNum", "ToCopy")
# These join or overwrite tensors; each part may have come out of anything.
_HIDING = ("Cat", "IndexPut", "Stack")


def remember_place(tensor: Tensor, place: Callable[[], str]) -> None:
    """Keep with the graph of `tensor` where its activation was applied, if it is the output of one.

    `place` is asked only then.
    """
    try:
        node: Any = tensor.grad_fn
    except RuntimeError:  # a view whose base was changed in place under `no_grad`
        return
    named = _NAME.fullmatch(type(node).__name__)
    if named is not None and named[1] in _ACTIVATIONS and _PLACE not in node.metadata:
        node.metadata[_PLACE] = place()


def origin(tensor: Tensor, classes: int | None) -> Origin:
    """The activation that `tensor` comes out of; `classes` is its axis of the classes, if any."""
    try:
        node: Any = tensor.grad_fn
    except RuntimeError:  # a view whose base was changed in place under `no_grad`
        return UNKNOWN
    state: _State = (tuple(tensor.shape), classes)
    logged = False
    for _ in range(_MOST_STEPS):
        named = _NAME.fullmatch(type(node).__name__)
        if named is None or isinstance(node, BackwardCFunction):
            return UNKNOWN  # a leaf, or somebody's own function
        name = named[1]
        if name in _ACTIVATIONS:
            found = _activation(node, _ACTIVATIONS[name], state, logged)
            return found._replace(place=node.metadata.get(_PLACE, ""))
        if name == "Log" and not logged:
            logged = True
        elif name in _MOVES:
            state = _MOVES[name](node, state)
        elif name in _HIDING:
            return UNKNOWN
        elif name not in _SAME:
            return _OTHER
        node = node.next_functions[0][0]
    return UNKNOWN


def _activation(node: Any, activation: str, state: _State, logged: bool) -> Origin:
    if logged and activation.startswith("log-"):
        return _OTHER
    activation = f"log-{activation}" if logged else activation
    if "softmax" not in activation:
        return Origin(True, activation)
    sizes, classes = state
    axis = _number(_saved(node, "dim"))
    if axis is None or (axis < 0 and sizes is None):
        return Origin(True, activation)
    if sizes is not None:
        axis %= max(len(sizes), 1)
    return Origin(True, activation, axis, None if classes is None else axis == classes)


def _saved(node: Any, name: str) -> Any:
    """What a node has saved; None if it has no such thing, or no longer."""
    try:
        return getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None


def _number(saved: Any) -> int | None:
    """An axis, which a node saves without a sign."""
    if not isinstance(saved, int):
        return None
    return saved - 2**64 if saved >= 2**63 else saved


def _sizes(node: Any) -> tuple[int, ...] | None:
    """The sizes of what went in."""
    saved = _saved(node, "self_sym_sizes")
    known = isinstance(saved, tuple) and all([isinstance(size, int) for size in saved])
    return saved if known else None


def _reshaped(node: Any, state: _State) -> _State:
    """The same elements in the same order: an axis is the same if as many come before it."""
    before, (sizes, classes) = _sizes(node), state
    if before is None or sizes is None or classes is None or sizes[classes] < 2:
        return before, None
    ahead = _product(sizes[:classes])
    for axis, size in enumerate(before):
        if ahead and size == sizes[classes] and _product(before[:axis]) == ahead:
            return before, axis
    return before, None


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _transposed(node: Any, state: _State) -> _State:
    sizes, _ = state
    pair = [_number(_saved(node, "dim0")), _number(_saved(node, "dim1"))]
    if sizes is None or not sizes or None in pair:
        return _LOST
    order = list(range(len(sizes)))
    one, other = [axis % len(sizes) for axis in pair if axis is not None]
    order[one], order[other] = order[other], order[one]
    return _ordered(state, order)


def _permuted(node: Any, state: _State) -> _State:
    sizes, _ = state
    saved = _saved(node, "dims")
    if sizes is None or not isinstance(saved, tuple) or len(saved) != len(sizes):
        return _LOST
    numbers = [_number(axis) for axis in saved]
    return _ordered(state, [axis % len(sizes) for axis in numbers if axis is not None])


def _turned(node: Any, state: _State) -> _State:
    sizes, _ = state
    return _LOST if sizes is None else _ordered(state, list(range(len(sizes)))[::-1])


def _ordered(state: _State, order: list[int]) -> _State:
    """Before its axes were put into another order: axis `i` was axis `order[i]`."""
    sizes, classes = state
    if sizes is None or len(order) != len(sizes):
        return _LOST
    before = tuple(sizes[order.index(axis)] for axis in range(len(sizes)))
    return before, None if classes is None else order[classes]


def _unsqueezed(node: Any, state: _State) -> _State:
    sizes, classes = state
    axis = _number(_saved(node, "dim"))
    if not sizes or axis is None:
        return _LOST
    axis %= len(sizes)
    before = (*sizes[:axis], *sizes[axis + 1 :])
    if classes is None or classes == axis:
        return before, None
    return before, classes - (classes > axis)


def _selected(node: Any, state: _State) -> _State:
    before, (_, classes) = _sizes(node), state
    axis = _number(_saved(node, "dim"))
    if not before or axis is None:
        return _LOST
    return before, None if classes is None else classes + (classes >= axis % len(before))


def _cut(node: Any, state: _State) -> _State:
    """A part of the same axes."""
    return _sizes(node), state[1]


def _expanded(node: Any, state: _State) -> _State:
    before, (sizes, classes) = _sizes(node), state
    if before is None or sizes is None or classes is None:
        return before, None
    axis = classes - (len(sizes) - len(before))
    return before, axis if axis >= 0 and before[axis] == sizes[classes] else None


def _picked(node: Any, state: _State) -> _State:
    """Elements chosen by indices, which are tensors and not looked at."""
    return _sizes(node), None


_MOVES: dict[str, Callable[[Any, _State], _State]] = {
    "AsStrided": _picked,
    "Expand": _expanded,
    "Index": _picked,
    "IndexSelect": _cut,
    "MaskedSelect": _picked,
    "Permute": _permuted,
    "ReshapeAlias": _reshaped,
    "Select": _selected,
    "Slice": _cut,
    "Split": _cut,
    "SplitWithSizes": _cut,
    "Squeeze": _reshaped,
    "T": _turned,
    "Transpose": _transposed,
    "Unbind": lambda node, state: _LOST,
    "UnsafeView": _reshaped,
    "Unsqueeze": _unsqueezed,
    "View": _reshaped,
}
