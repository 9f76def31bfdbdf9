"""The nouns of a call: what comes, what it is read as, and why it may be refused."""

import enum
import operator
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from safeloss._contract.patterns import Axes, Pattern, Shape
from safeloss._torch import transformed
from safeloss.errors import LayoutError, SafeLossError


class Evidence(Protocol):
    """What earlier calls have proved."""

    @property
    def one_class(self) -> bool:
        """Whether one class is no mistake: several were seen before."""
        ...

    def knows_class_axis(self, rank: int, classes: int) -> bool:
        """Whether it is known which axis holds so many classes, among so many axes."""
        ...


class Kind(enum.Enum):
    """What the verdict on a call depends on, of one argument."""

    TENSOR = "its shape and dtype"
    INTEGER = "its value, which may equal a size"
    CHOICE = "its value"
    FREE = "nothing: it is a number, or an object"


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    name: str
    kind: Kind
    default: Any  # `inspect.Parameter.empty` where it is required
    keyword_only: bool
    native: bool  # PyTorch has it as well
    choices: tuple[Any, ...] = ()  # the values that it may have, where its hint lists them
    integer: bool = False  # must be one
    optional: bool = False  # ... or None


class Input(NamedTuple):
    """A tensor parameter of a kernel. Required ones are aligned; optional ones are weights."""

    name: str
    hint: Any
    arrays: Any  # the array hints in it, without what a layout adds to them
    patterns: tuple[Pattern, ...]
    patterns_last: tuple[Pattern, ...]  # as `class_dim=-1` spells them
    weight: bool
    tensor: bool  # nothing else is declared


class Call(NamedTuple):
    """All that a verdict depends on."""

    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, torch.dtype]
    options: Mapping[str, Any]
    evidence: Evidence | None = None
    given: tuple[str, ...] = ()  # the weights, the mask and the denominator, if they are there

    def knows_class_axis(self, rank: int, classes: int) -> bool:
        return self.evidence is not None and self.evidence.knows_class_axis(rank, classes)

    @property
    def allows_one_class(self) -> bool:
        return self.evidence is not None and self.evidence.one_class


class Edit(NamedTuple):
    """What one argument needs before PyTorch gets it: a view of its axes, a cast, or both."""

    shape: Shape | None = None
    classes_to_second: bool = False
    dtype: torch.dtype | None = None
    weight: bool = False  # which autocast promotes by itself

    def apply(self, tensor: Tensor) -> Tensor:
        for method, arguments in self.moves(tensor.shape) + self.casts(tensor.device.type):
            tensor = getattr(tensor, method)(*arguments)
        return tensor

    def steps(self, shape: Shape) -> list[Callable[[Tensor], Tensor]]:
        """The same for tensors of one shape, decided once."""
        if self.weight:
            return [self.apply]
        moves = self.moves(shape) + self.casts("")
        return [operator.methodcaller(method, *arguments) for method, arguments in moves]

    def names_sizes(self, shape: Shape) -> bool:
        """Whether `steps` are right for no other sizes than those of `shape`."""
        if self.weight:
            return self.shape is not None
        return "view" in [method for method, _ in self.moves(shape)]

    def moves(self, shape: Shape) -> list[tuple[str, tuple[Any, ...]]]:
        """The methods that give a tensor of `shape` its axes."""
        moves = [] if self.shape is None else [self._view(shape, tuple(self.shape))]
        return [*moves, ("movedim", (-1, 1))] if self.classes_to_second else moves

    def casts(self, device: str) -> list[tuple[str, tuple[Any, ...]]]:
        """The method that gives a tensor on `device` its element type, if it needs another."""
        if self.dtype is None or (self.weight and torch.is_autocast_enabled(device)):
            return []
        return [("to", (self.dtype,))]

    def _view(self, before: Shape, after: Shape) -> tuple[str, tuple[Any, ...]]:
        """Axes of size 1 inserted or left out, without naming the size of the batch, so that a
        trace of the call holds for every one."""
        spare = len(before) - len(after)
        if spare not in (1, -1):
            return "view", (self._open(after),)
        longer, shorter = (before, after) if spare == 1 else (after, before)
        axis = 0
        while axis < len(shorter) and longer[axis] == shorter[axis]:
            axis += 1
        return ("squeeze" if spare == 1 else "unsqueeze"), (axis,)

    def _open(self, shape: Shape) -> tuple[int, ...]:
        """`shape` with its first size that is not 1 left open, where the others determine it."""
        if all([size != 0 for size in shape]):
            for axis, size in enumerate(shape):
                if size != 1:
                    return (*shape[:axis], -1, *shape[axis + 1 :])
        return (*shape,)


class Masked(NamedTuple):
    """How the mask, which has the axes of the unreduced loss, applies to one argument."""

    value: Any  # that stands for what the mask leaves out; None: what is there stays
    shared: tuple[int, ...]  # axes along which the argument has one number for all
    missing: tuple[int, ...]  # ... those among them that it lacks
    own: tuple[int, ...]  # axes of the argument that the unreduced loss lacks


class Reading(NamedTuple):
    """What a call means."""

    axes: Axes
    patterns: Mapping[str, Pattern]
    edits: Mapping[str, Edit]  # of those arguments that need one
    exact: bool
    # The axis of the first input that this call proves to hold the classes.
    proves: int | None = None
    one_class: bool = False  # a mistake unless earlier calls had several
    masked: Mapping[str, Masked] = types.MappingProxyType({})  # by argument, where a mask is given
    shares: bool = False  # whether a weight or a mask has one number for several of the loss

    def binding(self, axes: Axes) -> "Reading":
        return self._replace(axes=axes)


# What the numbers of a call must tell: its tensors, and the axis of the classes.
Check: TypeAlias = Callable[[Mapping[str, Tensor], int], bool]


class Offer(NamedTuple):
    """A fix that may be offered, if the loss accepts what it gives."""

    code: str
    when: str = ""  # the meaning of the data that it is right for
    needs: Check | None = None  # of the numbers, where they can be read; else it is not offered
    sure: Check | None = None  # of the numbers: where it holds, `when` is no question any more


class Refusal(NamedTuple):
    """Why a call means nothing, or nothing that anybody wants."""

    error: type[SafeLossError]
    rule: str
    code: str
    advice: str = ""
    fixes: tuple[Offer | str, ...] = ()  # offered only if the loss accepts what they give
    weight: str = ""  # the one weight that is to blame
    weak: bool = False  # right only if the targets are not all 0


class Mistake(NamedTuple):
    """A typed signature that is refused by name. Its conditions are data."""

    layouts: tuple[tuple[str, tuple[Pattern, ...]], ...]  # by argument
    layouts_last: tuple[tuple[str, tuple[Pattern, ...]], ...]  # as `class_dim=-1` spells them
    rule: str
    code: str
    advice: str = ""
    fixes: tuple[Offer, ...] = ()
    error: type[SafeLossError] = LayoutError
    always: bool = False  # refused although its shapes fit; otherwise named when nothing fits
    warns: bool = False  # legal, so only said
    classes: tuple[int, int] | None = None  # only for so many of them: from, to
    option: tuple[str, Any] | None = None  # only where this option has this value
    given: tuple[str, Any] | None = None  # only where it has another one, and negative
    batched: bool = False  # only where no `torch.func` transform hides a batch axis
    weak: bool = False  # no mistake where earlier calls had several classes, or all targets are 0

    def matches(self, call: Call, last: bool) -> bool:
        """Whether `call` is this mistake."""
        if self.option is not None and call.options[self.option[0]] != self.option[1]:
            return False
        if self.given is not None:
            name, default = self.given
            if call.options[name] == default or call.options[name] >= 0:
                return False
        axes: Axes = {}
        for name, patterns in self.layouts_last if last else self.layouts:
            if name not in call.shapes:
                return False
            bound = None
            for pattern in patterns:
                if bound is None and call.dtypes[name] in pattern.dtypes:
                    bound = pattern.match(call.shapes[name], axes)
            if bound is None:
                return False
            axes = bound
        if self.classes is not None:
            least, most = self.classes
            if axes["classes"] < least or axes["classes"] > most:
                return False
        return not (self.batched and transformed())

    def refusal(self) -> Refusal:
        return Refusal(
            self.error,
            self.rule,
            code=self.code,
            advice=self.advice,
            fixes=self.fixes,
            weak=self.weak,
        )
