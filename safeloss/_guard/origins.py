"""How tensors came about, as far as a guard has seen: whose their axes of size 1 are.

A prediction `[B, 1]` that meets a target `[B]` and a column of positions that meets a row have the
same shapes. What made them differs: a head, a loader or a `keepdim=True` left the axis of the one,
and the user made that of the other, to have every one meet every other.
"""

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._guard.caller import Site, caller
from safeloss._messages.stack import Line, is_users
from safeloss._torch import tracing, unhandled

_OWNERS = (torch, Tensor, F, torch.linalg)


class Maker(NamedTuple):
    """Who made an axis of size 1: the line, and the functions of the user's that were running."""

    line: Line
    sites: tuple[Site, ...]  # the innermost first, up to the first of torch's

    @classmethod
    def running(cls) -> "Maker | None":
        """The user, who called a function of torch's; None where other code of torch's did."""
        by = caller(directly=True)
        if by is None:
            return None
        sites: list[Site] = []
        frame: FrameType | None = by.frame
        while frame is not None and is_users(frame.f_code.co_filename):
            sites.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return cls(by.line, tuple(sites))

    def is_function(self, frame: FrameType) -> bool:
        """Whether the function of `frame`, or one that it called, has made the axis."""
        return any(code is frame.f_code for code, _ in self.sites)

    def is_expression(self, frame: FrameType) -> bool:
        """Whether the expression that `frame` evaluates has made the axis."""
        return any(
            code is frame.f_code and _contains((code, frame.f_lasti), (code, place))
            for code, place in self.sites
        )


def _contains(outer: Site, inner: Site) -> bool:
    """Whether the source of one instruction is part of another's; before Python 3.11, its line."""
    one, other = _span(outer), _span(inner)
    return one[0] <= other[0] and other[1] <= one[1]


def _span(site: Site) -> tuple[tuple[int, int], tuple[int, int]]:
    code, place = site
    positions: Any = getattr(code, "co_positions", None)
    if positions is not None:
        line, end, column, last = next(itertools.islice(positions(), place // 2, None))
        return (line or 0, column or 0), (end or 0, last or 0)
    line = next(line for start, stop, line in code.co_lines() if start <= place < stop)
    return (line or 0, 0), (line or 0, 0)


class Origin(NamedTuple):
    """How a tensor came about. What changes only its numbers, such as `exp`, passes it on."""

    constant: bool = False  # it belongs to no sample: a grid, or a statistic over the batch
    drawn: bool = False  # normal random numbers of a given size, maybe of no sample
    made: Maker | None = None  # an axis of size 1, by the user's own hand
    kept: bool = False  # an axis of size 1 is what a reduction has left of it
    lost: bool = False  # an axis of size 1 was removed
    part: Literal["", "square", "norm"] = ""  # what pairwise distances and cosines consist of
    root: "weakref.ref[Tensor] | None" = None  # whose numbers were changed


UNKNOWN = Origin()
_Follow: TypeAlias = Callable[["Origins", Any, Sequence[Any], Mapping[str, Any], Any], None]


class Origins:
    """The origins of the tensors of a program. Tensors are not kept alive."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}

    def of(self, tensor: Tensor) -> Origin:
        reference, origin = self.known.get(id(tensor), (None, UNKNOWN))
        return origin if reference is not None and reference() is tensor else UNKNOWN

    def follow(self, func: Any, args: Sequence[Any], given: Mapping[str, Any], result: Any) -> None:
        """Note what `func`, one of `FOLLOWED`, has made."""
        if not tracing():
            with unhandled():
                FOLLOWED[func](self, func, args, given, result)

    def _keep(self, tensor: Tensor, origin: Origin) -> None:
        if origin != UNKNOWN:
            key = id(tensor)
            forget = lambda _, known=self.known: known.pop(key, None)  # noqa: E731
            self.known[key] = weakref.ref(tensor, forget), origin
        else:
            self.known.pop(id(tensor), None)

    def grid(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """Numbers that are made of no tensor, and not drawn: positions, classes, frequencies."""
        for tensor in _tensors(result):
            self._keep(tensor, Origin(constant=True))

    def draw(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """Normal random numbers that are made of no tensor."""
        if isinstance(result, Tensor) and not _tensors([*args, *given.values()]):
            self._keep(result, Origin(drawn=True))

    def triangle(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """A causal mask, if it is not of scores."""
        if not result.requires_grad:
            self._keep(result, Origin(constant=True))

    def move(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """The same elements, or some of them, in another shape."""
        source = args[0] if args else given.get("input")
        if not isinstance(source, Tensor) or not isinstance(result, Tensor):
            return
        origin = self.of(source)
        if func in _INDEXING:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, (Tensor, list)) for part in index):
                origin = UNKNOWN  # rows of a table, one for each sample
            grew = any(part is None for part in index)
        elif func in _IN_PLACE:
            grew = func in _UNSQUEEZING
        else:
            grew = _ones(result) > _ones(source)
        if grew:
            origin = origin._replace(made=Maker.running(), kept=False, lost=False)
        elif func in _IN_PLACE or (_ones(result) < _ones(source) and _as_many(source, result)):
            origin = origin._replace(made=None, kept=False, lost=True)
        self._keep(result, origin)

    def renumber(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """Other numbers in the same places."""
        source = args[0] if args else given.get("input")
        if isinstance(source, Tensor) and isinstance(result, Tensor):
            self._pass_on(func, source, result)

    def combine(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """An element-wise operator."""
        if not isinstance(result, Tensor) or result is (args[0] if args else None):
            return
        operands = _tensors([*args, *given.values()])
        if len(operands) == 1:
            self._pass_on(func, operands[0], result)
            if func in _POWERS and any(type(x) in (int, float) and x == 2 for x in args[1:]):
                self._keep(result, self.of(result)._replace(part="square"))
            return
        origins = [self.of(operand) for operand in operands]
        if all(origin is UNKNOWN for origin in origins):
            if func in _PRODUCTS and operands[0] is operands[1]:
                self._keep(result, Origin(part="square"))
            return
        large = [o for o, x in zip(origins, operands) if x.shape == result.shape] or [UNKNOWN]
        squared = func in _PRODUCTS and operands[0] is operands[1]
        self._keep(
            result,
            Origin(
                constant=all(origin.constant for origin in origins),
                drawn=all(origin.drawn or origin.constant for origin in origins),
                made=large[0].made if all(origin.made for origin in large) else None,
                kept=any(origin.kept for origin in large),
                lost=any(origin.lost for origin in large),
                part="square" if squared else "",
            ),
        )

    def reduce(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """A reduction: what it leaves of an axis, and whether any of it is a sample's."""
        source = args[0] if args else given.get("input")
        position = _REDUCTIONS[func]
        axes = given.get("dim", given.get("axis", args[position] if len(args) > position else None))
        results = _tensors(result)
        if not isinstance(source, Tensor) or not results or not results[0].dim():
            return
        axes = axes if isinstance(axes, (tuple, list)) else (axes,)
        over_batch = any(type(a) is int and a % source.dim() == 0 for a in axes)
        part: Any = "norm" if func in _NORMS else self.of(source).part
        origin = Origin(
            constant=over_batch or self.of(source).constant,
            kept=results[0].dim() == source.dim(),
            part=part if func in _NORMS or func in _TOTALS else "",
        )
        for tensor in results:
            self._keep(tensor, origin)

    def extreme(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """`max` and `min`: of two tensors they are operators."""
        two = isinstance(given.get("other", args[1] if len(args) > 1 else None), Tensor)
        (self.combine if two else self.reduce)(func, args, given, result)

    def distance(self, func: Any, args: Any, given: Any, result: Any) -> None:
        """A distance of each sample to its own partner."""
        if isinstance(result, Tensor) and result.dim() and isinstance(args[0], Tensor):
            self._keep(result, Origin(kept=result.dim() == args[0].dim()))

    def _pass_on(self, func: Any, source: Tensor, result: Tensor) -> None:
        origin = self.of(source)
        if origin is not UNKNOWN:
            if func in _ROOTS and origin.part == "square":
                origin = origin._replace(part="norm")
            elif func in _SQUARES:
                origin = origin._replace(part="square")
            self._keep(result, origin)
        elif func in _SQUARES:
            self._keep(result, Origin(part="square"))
        elif result.dim() == 1 and not result.requires_grad:  # a buffer's, maybe
            self._keep(result, Origin(root=weakref.ref(source)))


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [value for value in values if isinstance(value, Tensor)]


def _ones(tensor: Tensor) -> int:
    return sum(type(size) is int and size == 1 for size in tensor.shape)


def _as_many(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel()


def _named(*names: str) -> set[Any]:
    """The functions of torch that have one of these names; `torch.float` is none."""
    values = {getattr(owner, name, None) for owner in _OWNERS for name in names}
    return {value for value in values if callable(value)}


_INDEXING = {Tensor.__getitem__}
_POWERS = _named("pow", "__pow__")
_SQUARES = _named("square")
_ROOTS = _named("sqrt", "__sqrt__")
_PRODUCTS = _named("mul", "multiply", "__mul__")
_TOTALS = _named("sum", "mean")
_NORMS = _named("norm", "vector_norm")
_IN_PLACE = _named("squeeze_", "unsqueeze_")
_UNSQUEEZING = _named("unsqueeze_")
_EXTREMES = _named("max", "min")
_TAKES_DIM_FIRST = _EXTREMES | _named(
    *("sum", "nansum", "mean", "nanmean", "prod", "std", "var", "logsumexp", "all", "any"),
    *("amax", "amin", "argmax", "argmin", "median", "mode", "count_nonzero"),
)
_TAKES_DIM_SECOND = _named("norm", "vector_norm", "quantile", "nanquantile")
# And where the axis stands among the arguments.
_REDUCTIONS = dict.fromkeys(_TAKES_DIM_FIRST, 1) | dict.fromkeys(_TAKES_DIM_SECOND, 2)

# The functions whose results are followed; those in `arithmetic.OPERATORS` are added there.
FOLLOWED: dict[Any, _Follow] = {
    **dict.fromkeys(
        _named(
            *("arange", "range", "linspace", "logspace", "eye", "tril_indices", "triu_indices"),
            *("bincount", "histc", "unique_consecutive"),
            *("hann_window", "hamming_window", "blackman_window", "bartlett_window"),
        )
        | {torch.fft.fftfreq, torch.fft.rfftfreq, torch.unique, Tensor.unique},
        Origins.grid,
    ),
    **dict.fromkeys(_named("randn", "normal"), Origins.draw),
    **dict.fromkeys(_named("tril", "triu"), Origins.triangle),
    **dict.fromkeys(
        _named(
            *("squeeze", "unsqueeze", "squeeze_", "unsqueeze_", "view", "reshape", "flatten"),
            *("ravel", "unflatten", "__getitem__", "select", "narrow", "t", "transpose"),
            *("permute", "movedim", "moveaxis", "swapaxes", "swapdims", "adjoint"),
            *("expand", "broadcast_to", "repeat", "tile", "atleast_2d", "atleast_3d"),
        )
        | {getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH")},
        Origins.move,
    ),
    **dict.fromkeys(
        _named(
            *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "square"),
            *("abs", "absolute", "neg", "negative", "sign", "reciprocal", "sin", "cos", "tan"),
            *("sinh", "cosh", "tanh", "sigmoid", "relu", "softplus", "logsigmoid", "gelu", "silu"),
            *("round", "floor", "ceil", "trunc", "frac", "clamp", "clamp_min", "clamp_max", "clip"),
            *("float", "double", "half", "bfloat16", "int", "long", "bool", "type", "to"),
            *("type_as", "cpu", "cuda", "clone", "detach", "contiguous", "cumsum", "cumprod"),
            *("flip", "roll", "masked_fill", "nan_to_num", "logical_not", "bitwise_not"),
            *("__neg__", "__abs__", "__invert__", "requires_grad_", "bernoulli", "dropout"),
            *("zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
        ),
        Origins.renumber,
    ),
    **dict.fromkeys(_REDUCTIONS, Origins.reduce),
    **dict.fromkeys(_EXTREMES, Origins.extreme),
    **dict.fromkeys(_named("pairwise_distance", "cosine_similarity"), Origins.distance),
}
