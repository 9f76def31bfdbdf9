"""jaxtyping hints parsed to plain tuples, and matched by plain Python.

jaxtyping cannot be traced by Dynamo, and it says *whether* a tensor fits, not *how*. The same
hints, parsed once at import, are matched here against sizes, whether those are integers or the
symbolic ones of a compiler, which inlines `Pattern.match` in typed heads. What it shall inline is a
method: a global function would be one more thing that it guards on at every call.
"""

import ast
import enum
import functools
import operator
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import AbstractArray

Shape: TypeAlias = Sequence[int]
Axes: TypeAlias = dict[str, Any]  # {"batch": 32, "*space": (8, 8)}


class Reads(enum.Enum):
    """What a layout may say beside its axes: how its tensor is read."""

    AS_INDICES = "any integer or bool is cast to int64"
    AS_LABELS = "bool, integers and a float64 wider than the scores are cast to their dtype"
    AS_TARGETS = "a float64 wider than the scores is cast to their dtype"
    AS_SCORES = "any floating dtype is cast to that of the scores"
    AS_WEIGHTS = "bool and integers are cast to the dtype of the scores"
    UNALIGNED = "must have exactly the shape that is spelled"
    BROADCAST = "may be smaller than spelled, where PyTorch broadcasts it without enlarging"
    BINDS = "binds axes that the first argument lacks, and is not aligned"
    PER_LOSS = "has the shape of the unreduced loss, or its first axes"
    JOINED = "joins the samples on one axis, so that no mask can leave one out"


@dataclass(frozen=True)
class Fill:
    """The number that stands for what a mask leaves out, which PyTorch must be able to read."""

    value: float


class Dim(NamedTuple):
    """One axis of a layout (`name`), or several (`variadic`); without a name, any size."""

    name: str = ""
    size: int | None = None
    variadic: bool = False
    broadcast: bool = False
    compute: Callable[..., int] | None = None  # "features-1", as a function of `needs`
    needs: tuple[str, ...] = ()


class Pattern(NamedTuple):
    """One array hint: element types and axes, and what `Annotated` adds to them."""

    hint: Any  # Integer[Tensor, "batch *space"]
    text: str  # "[batch, *space]"
    kind: str  # "Integer"
    dtypes: tuple[torch.dtype, ...]
    dims: tuple[Dim, ...]
    variadic: bool  # has an axis that stands for several
    has_anonymous_axis: bool  # has an axis without a name, which takes any size and is not aligned
    leading_batch: bool  # begins with the batch, and lacks the classes
    reads: str = ""  # the name of a `Reads`
    broadcast: bool = False  # `Reads.BROADCAST`
    unaligned: bool = False  # `Reads.UNALIGNED`
    introduces_axes: bool = False  # `Reads.BINDS`
    joined: bool = False  # `Reads.JOINED`
    fill: float | None = None  # of a `Fill`
    rules: tuple[Any, ...] = ()  # of `_values`

    def has(self, axis: str) -> bool:
        return any([dim.name == axis for dim in self.dims])

    def class_axis(self, rank: int) -> int | None:
        """The axis of the classes in a tensor of `rank` axes; None if none is named so."""
        names = [dim.name for dim in self.dims]
        if "classes" not in names:
            return None
        position = names.index("classes")
        before = any([dim.variadic for dim in self.dims[:position]])
        return rank - len(names) + position if before else position

    def classes_last(self) -> "Pattern":
        """The same layout as `class_dim=-1` spells it: the class axis at the end."""
        rest = tuple(dim for dim in self.dims if dim.name != "classes")
        classes = tuple(dim for dim in self.dims if dim.name == "classes")
        words = self.text[1:-1].split(", ")
        text = ", ".join([word for word in words if word != "classes"] + ["classes"] * len(classes))
        return self._replace(dims=rest + classes, text=f"[{text}]")

    def match(self, shape: Shape, axes: Axes) -> Axes | None:
        """`axes` and those that `shape` binds; None if `shape` does not have this layout."""
        spare = len(shape) - len(self.dims)
        if spare < -1 if self.variadic else spare != 0:
            return None
        bound = dict(axes)
        position = 0
        for dim in self.dims:
            if dim.variadic:
                sizes = tuple(shape[position : position + spare + 1])
                position += spare + 1
                if dim.name and not self._bind_several(bound, dim, sizes):
                    return None
            else:
                if not self._bind(bound, dim, shape[position]):
                    return None
                position += 1
        return bound

    def _bind(self, bound: Axes, dim: Dim, size: int) -> bool:
        if dim.broadcast and size == 1:
            return True
        if dim.compute is not None:
            expected = dim.compute(*[bound[name] for name in dim.needs])
        elif dim.size is not None:
            expected = dim.size
        elif dim.name in bound:
            expected = bound[dim.name]
        else:
            if dim.name:
                bound[dim.name] = size
            return True
        # A branch rather than `bool(...)`, which Dynamo cannot trace on symbols before torch 2.7.
        return True if expected == size else False  # noqa: SIM210  # see above

    def _bind_several(self, bound: Axes, dim: Dim, sizes: tuple[int, ...]) -> bool:
        """jaxtyping's rules: an axis marked `#` may be broadcast, once it meets one that is not."""
        key, mark = "*" + dim.name, "#" + dim.name
        if key not in bound:
            bound[key], bound[mark] = sizes, dim.broadcast
            return True
        known, stretches = bound[key], bound[mark]
        if not dim.broadcast and not stretches:
            return sizes == known
        joint = self._joint(sizes, known)
        if joint is None or (not stretches and joint != known):
            return False
        if not dim.broadcast and joint != sizes:
            return False
        bound[key], bound[mark] = joint, stretches and dim.broadcast
        return True

    def _joint(self, one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
        rank = max(len(one), len(other))
        joint = []
        for a, b in zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other):
            if a != b and a != 1 and b != 1:
                return None
            joint.append(b if a == 1 else a)
        return tuple(joint)

    def labels(self, axes: Axes) -> list[tuple[str, int]]:
        """The name of each axis under `axes`, with its place among those that share the name."""
        found: list[tuple[str, int]] = []
        for position, dim in enumerate(self.dims):
            if dim.variadic:
                found += [(dim.name, place) for place in range(len(axes["*" + dim.name]))]
            else:
                found.append((dim.name or f"{position}", 0))
        return found

    def spell(self, axes: Axes) -> tuple[int, ...] | None:
        """The shape that this layout has under `axes`; None if they do not determine it."""
        shape: tuple[int, ...] = ()
        for dim in self.dims:
            if dim.variadic:
                sizes = axes.get("*" + dim.name)
            else:
                size = dim.size if dim.size is not None else axes.get(dim.name)
                sizes = None if size is None else (size,)
            if sizes is None:
                return None
            shape += sizes
        return shape

    def aligns(self, shape: Shape, spelled: Shape) -> bool:
        """Equal up to axes of size 1 that are only inserted or only missing, never both.

        None is inserted before a `batch` that stands without the classes: that would be another
        batch axis, which the argument that binds the axes has lost.
        """
        if self.unaligned or not fits(shape, spelled):
            return False
        return not self.leading_batch or len(shape) < len(spelled) or shape[0] == spelled[0]


def dtypes_of(patterns: Sequence[Pattern]) -> str:
    """What a dtype must be, in words: `integer, floating or bool`."""
    words = [word for p in patterns for word in _WORDS.get(p.kind, (p.kind.lower(),))]
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} or {last}" if others else last


def fits(shape: Shape, spelled: Shape) -> bool:
    """Equal up to axes of size 1 that are only inserted or only missing, never both."""
    if len(shape) == len(spelled):
        return tuple(shape) == tuple(spelled)
    longer, shorter = (shape, spelled) if len(shape) > len(spelled) else (spelled, shape)
    position = 0
    for size in longer:
        if position < len(shorter) and size == shorter[position]:
            position += 1
        elif size != 1:
            return False
    return position == len(shorter)


def is_bearable(value: object, hint: Any) -> bool:
    """beartype's word on whether `value` is as `hint` says.

    To import its door takes longer than all of this library: it is opened at the first call.
    """
    from beartype.door import is_bearable

    return is_bearable(value, hint)


# jaxtyping's kinds of dtypes in words.
_WORDS = {"Real": ("integer", "floating"), "Float": ("floating",), "Shaped": ("any dtype",)}
_DTYPES = tuple(
    sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
)


def parse(hint: Any) -> tuple[Pattern, ...]:
    """The array layouts that `hint` admits; what is no array (None, int, ...) is passed over."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        base, *notes = typing.get_args(hint)
        patterns = parse(base)
        for note in notes:
            patterns = tuple(_noted(pattern, note) for pattern in patterns)
        return patterns
    if origin is typing.Union or origin is types.UnionType:
        return tuple(pattern for member in typing.get_args(hint) for pattern in parse(member))
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return (_parse_array(hint),)
    return ()


def bare(hint: Any) -> Any:
    """`hint` as it is shown to users: the same tensors, without what `Annotated` adds to them."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return bare(typing.get_args(hint)[0])
    if origin is typing.Union or origin is types.UnionType:
        return functools.reduce(operator.or_, [bare(member) for member in typing.get_args(hint)])
    return hint


def of_one_sample(hint: Any) -> Any:
    """`hint` without the axes that a single sample lacks: the batch, and the space around it."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *notes = typing.get_args(hint)
        annotated: Any = typing.Annotated
        return operator.getitem(annotated, (of_one_sample(base), *notes))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [of_one_sample(member) for member in typing.get_args(hint)]
        return functools.reduce(operator.or_, members)
    axes = [word for word in hint.dim_str.split() if word not in ("batch", "*space")]
    return hint.dtype[hint.array_type, " ".join(axes)]


@functools.cache
def _parse_array(hint: type[AbstractArray]) -> Pattern:
    words = hint.dim_str.split()
    dims = tuple(_parse_dim(word) for word in words)
    text = f"[{', '.join(words)}]"
    has_anonymous_axis = any(not dim.name and dim.size is None for dim in dims)
    leading_batch = dims[:1] == (Dim("batch"),) and Dim("classes") not in dims
    listed = isinstance(hint.dtypes, (list, tuple))  # jaxtyping has a marker for "any"
    dtypes = _parse_dtypes(tuple(hint.dtypes)) if listed else _DTYPES
    variadic = any(dim.variadic for dim in dims)
    return Pattern(
        hint, text, hint.dtype.__name__, dtypes, dims, variadic, has_anonymous_axis, leading_batch
    )


def _noted(pattern: Pattern, note: Any) -> Pattern:
    if note is Reads.BROADCAST:
        return pattern._replace(broadcast=True)
    if note is Reads.UNALIGNED:
        return pattern._replace(unaligned=True)
    if note is Reads.BINDS:
        return pattern._replace(introduces_axes=True)
    if note is Reads.JOINED:
        return pattern._replace(joined=True)
    if isinstance(note, Fill):
        return pattern._replace(fill=note.value)
    if isinstance(note, Reads):
        return pattern._replace(reads=note.name)
    return pattern._replace(rules=(*pattern.rules, note))


@functools.cache
def _parse_dtypes(names: tuple[str | re.Pattern[str], ...]) -> tuple[torch.dtype, ...]:
    return tuple(
        dtype
        for dtype in _DTYPES
        if any(_is_named(str(dtype).removeprefix("torch."), name) for name in names)
    )


def _is_named(dtype: str, name: str | re.Pattern[str]) -> bool:
    return dtype == name if isinstance(name, str) else bool(name.match(dtype))


def _parse_dim(word: str) -> Dim:
    if word == "...":
        return Dim(variadic=True)
    rest = word.lstrip("*#_?")
    modifiers = word[: len(word) - len(rest)]
    name = rest.rpartition("=")[2]  # "rows=4" is 4, documented
    variadic, broadcast = "*" in modifiers, "#" in modifiers
    if "_" in modifiers or not name:
        return Dim(variadic=variadic, broadcast=broadcast)
    if name.isdecimal():
        return Dim(size=int(name), broadcast=broadcast)
    if name.isidentifier():
        return Dim(name, variadic=variadic, broadcast=broadcast)
    tree = ast.parse(name, mode="eval")
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    used = compile(tree, "<layout>", "eval").co_names
    needs = tuple(axis for axis in used if axis not in called)  # not the function in "min(a,b)"
    # The hint is source code of whoever declares it; as a function, Dynamo can inline it.
    return Dim(broadcast=broadcast, compute=eval(f"lambda {', '.join(needs)}: {name}"), needs=needs)
