"""What is right: every sample alone, with its own target, given to PyTorch.

The axes of a call have names. By them its inputs are put into the layouts that the signature
declares, whatever their sizes are; where a prediction has no target of its own, nothing is right.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from safeloss._contract.model import Input
from safeloss._contract.patterns import Pattern
from safeloss._hazards.grid import LETTERS, Axes

Layouts: TypeAlias = Mapping[str, Axes]  # by argument
Tensors: TypeAlias = Mapping[str, Tensor]
Sizes: TypeAlias = Mapping[str, int]


class Meaning(NamedTuple):
    """A call as it is declared: every prediction beside its target."""

    layouts: Layouts
    own: bool  # else one target is for several predictions


class Answer(NamedTuple):
    """What a loss makes of a call: a number and its gradient, or an error."""

    value: Tensor | None = None
    gradient: Tensor | None = None  # with respect to the first input
    error: Exception | None = None
    warnings: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return type(self.error).__name__ if self.value is None else f"{self.value.item():.4g}"

    def agrees(self, other: "Answer") -> bool:
        """Whether two are the same, to within what the order of a sum can do."""
        pairs = ((self.value, other.value), (self.gradient, other.gradient))
        return all(
            one is not None and two is not None and torch.allclose(one, two) for one, two in pairs
        )


def meaning(
    inputs: tuple[Input, ...], layouts: Layouts, sizes: Sizes, layer: Pattern | None
) -> Meaning | None:
    """What a call of these layouts means; None if nothing that this loss could compute.

    `layer` is the layout of the weights that turn features into class scores.
    """
    first, *others = inputs
    for pattern in first.patterns:
        spelled = _ordered(pattern, layouts[first.name])
        axes = understood(pattern, spelled)
        if axes is None:
            continue
        axes = axes if layer is None else _match(layer, ("C", "D"), axes)
        found, own = {first.name: spelled}, True
        for entry in others:
            candidates = _spelled(entry, axes, layouts[entry.name])
            exact = [c for c in candidates if _named(c) == _named(layouts[entry.name])]
            fewer = [c for c in candidates if _named(c) > _named(layouts[entry.name])]
            if not exact and not fewer:
                break
            own = own and bool(exact or entry.patterns[0].broadcast)
            found[entry.name] = (exact or fewer)[0]
        else:
            choice = "C" in spelled and "C" not in found[inputs[1].name]
            return None if choice and sizes["C"] == 1 else Meaning(found, own)
    return None


def understood(pattern: Pattern, layout: Axes) -> Mapping[str, Any] | None:
    """The axes that a layout binds, by name; None if it takes samples for classes, say."""
    axes = _match(pattern, layout, {})
    if axes is None or (pattern.dims[:1] and pattern.dims[0].variadic):
        return axes  # element by element any axis may be the last
    wrong = [
        word for word, letter in LETTERS.items() if axes.get(word, letter) not in (letter, "1")
    ]
    return None if wrong else axes


def _match(pattern: Pattern, layout: Axes, axes: Mapping[str, Any]) -> Any:
    """`Pattern.match` on the names of axes instead of their sizes."""
    names: Any = layout
    return pattern.match(names, dict(axes))


def _ordered(pattern: Pattern, axes: Axes) -> Axes:
    """`axes` in the order that is declared for those of them that have a name there."""
    known = [LETTERS.get(dim.name, "") for dim in pattern.dims if not dim.variadic]
    if not all(letter in axes for letter in known):
        return axes
    rest = tuple(axis for axis in axes if axis not in known)
    ordered: Axes = ()
    for dim in pattern.dims:
        ordered += rest if dim.variadic else (LETTERS[dim.name],)
    return ordered


def _spelled(entry: Input, axes: Mapping[str, Any], layout: Axes) -> list[Axes]:
    """The layouts that are declared for an input beside a first one with these axes."""
    batched = "batch" in axes or "*batch" in axes
    found = []
    for pattern in entry.patterns:
        if batched and not (entry.weight or pattern.has("batch")):
            continue  # all have a batch axis, or none has
        spelled = pattern.spell(dict(axes))
        if spelled is not None:
            found.append(tuple(map(str, spelled)))
        elif pattern.has_anonymous_axis and _match(pattern, layout, axes) is not None:
            found.append(layout)
    return found


def _named(axes: Axes) -> frozenset[str]:
    return frozenset(axes) - {"1"}


def arranged(tensor: Tensor, axes: Axes, wanted: Axes, sizes: Sizes) -> Tensor:
    """A tensor with other axes: in another order, those of size 1 elsewhere, repeated along new."""
    kept = [axis for axis in axes if axis != "1"]
    tensor = tensor.reshape([sizes[axis] for axis in kept])
    tensor = tensor.permute([kept.index(axis) for axis in wanted if axis in kept])
    for position, axis in enumerate(wanted):
        if axis not in kept:
            tensor = tensor.unsqueeze(position)
    return tensor.expand([sizes[axis] for axis in wanted]).contiguous()


def sample_by_sample(
    call: Callable[[Tensors], Tensor], tensors: Tensors, layouts: Layouts, sizes: Sizes
) -> Tensor:
    """The losses of all samples, each called alone."""
    first, *_ = layouts.values()
    losses = []
    for sample in range(sizes["B"] if "B" in first else 1):
        alone = {
            name: tensor.narrow(layouts[name].index("B"), sample, 1)
            if "B" in layouts[name]
            else tensor
            for name, tensor in tensors.items()
        }
        losses.append(call(alone))
    return torch.stack(losses)


def _from_a_new_line(call: Callable[[Tensors], Tensor], tensors: Tensors) -> Tensor:
    """`call(tensors)`, of which no loss has learnt or said anything: it keeps that by the line."""
    scope: dict[str, Any] = {}
    exec(compile("def ask(call, tensors): return call(tensors)", "<hazard>", "exec"), scope)
    value: Tensor = scope["ask"](call, tensors)
    return value


def answer(call: Callable[[Tensors], Tensor], tensors: Tensors) -> Answer:
    """What a call gives, with all that is said meanwhile."""
    first, *_ = tensors
    came = tensors[first]
    leaf = came if came.requires_grad else came.detach().clone().requires_grad_()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            value = _from_a_new_line(call, {**tensors, first: leaf})
            (gradient,) = torch.autograd.grad(value, leaf)
        except Exception as error:  # whatever it is, it is an answer
            return Answer(error=error)
    return Answer(value.detach(), gradient, None, frozenset(str(one.message) for one in said))
