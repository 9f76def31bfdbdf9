"""How tensors came about, as far as a guard has seen: whose their axes of size 1 are.

A prediction `[B, 1]` minus a target `[B]`, and a column of positions minus a row, have the same
shapes. They differ in how the axis of size 1 arose: a model, a data loader or `keepdim=True` left
the first, and the user added the second to get all pairs.
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
    """The user's code that added an axis of size 1: its line, and its call sites."""

    line: Line
    sites: tuple[Site, ...]  # the innermost first, up to the first of torch's

    @classmethod
    def running(cls) -> "Maker | None":
        """The user's code that called this function of PyTorch; None if PyTorch called it."""
        by = caller(directly=True)
        if by is None:
            return None
        sites: list[Site] = []
        frame: FrameType | None = by.frame
        while frame is not None and is_users(frame.f_code.co_filename):
            sites.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return cls(by.line, tuple(sites))

    def made_in_function(self, frame: FrameType) -> bool:
        """Whether the function of `frame`, or one that it called, has made the axis."""
        return any(code is frame.f_code for code, _ in self.sites)

    def made_in_expression(self, frame: FrameType) -> bool:
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
    keepdim: bool = False  # an axis of size 1 is what a reduction has left of it
    lost: bool = False  # an axis of size 1 was removed
    part: Literal["", "square", "norm"] = ""  # what pairwise distances and cosines consist of
    root: "weakref.ref[Tensor] | None" = None  # what it was computed from, number by number


UNKNOWN = Origin()
_Follow: TypeAlias = Callable[["Origins", Any, Sequence[Any], Mapping[str, Any], Any], None]


class Origins:
    """The origins of the tensors of a program. Tensors are not kept alive."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[weakref.ref[Tensor], Origin]] = {}

    def of(self, tensor: Tensor) -> Origin:
        reference, origin = self.known.get(id(tensor), (None, UNKNOWN))
        return origin if reference is not None and reference() is tensor else UNKNOWN

    def follow(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        """Record the origin of what `func`, one of `FOLLOWED`, has returned."""
        if not tracing():
            with unhandled():
                FOLLOWED[func](self, func, args, kwargs, result)

    def _record(self, tensor: Tensor, origin: Origin) -> None:
        if origin != UNKNOWN:
            key = id(tensor)
            forget = lambda _, known=self.known: known.pop(key, None)  # noqa: E731
            self.known[key] = weakref.ref(tensor, forget), origin
        else:
            self.known.pop(id(tensor), None)

    def mark_constant(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Mark the result as constant: positions, classes, frequencies, counts over the batch."""
        for tensor in _tensors(result):
            self._record(tensor, Origin(constant=True))

    def mark_drawn(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Mark the result as drawn: normal random numbers that are made of no tensor."""
        if isinstance(result, Tensor) and not _tensors([*args, *kwargs.values()]):
            self._record(result, Origin(drawn=True))

    def mark_mask(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Mark what `tril` or `triu` gives as constant: a causal mask, unless it is of scores."""
        if not result.requires_grad:
            self._record(result, Origin(constant=True))

    def after_reshape(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Pass the origin on through a change of shape, and record how axes of size 1 change."""
        source = args[0] if args else kwargs.get("input")
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
            grew = _count_size1_axes(result) > _count_size1_axes(source)
        if grew:
            origin = origin._replace(made=Maker.running(), keepdim=False, lost=False)
        elif func in _IN_PLACE or (
            _count_size1_axes(result) < _count_size1_axes(source) and same_numel(source, result)
        ):
            origin = origin._replace(made=None, keepdim=False, lost=True)
        self._record(result, origin)

    def after_elementwise(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Pass the origin on through a function that changes numbers, and not their places."""
        source = args[0] if args else kwargs.get("input")
        if isinstance(source, Tensor) and isinstance(result, Tensor):
            self._pass_on(func, source, result)

    def after_operator(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Derive the origin of the result of an operator from its operands."""
        if not isinstance(result, Tensor) or result is (args[0] if args else None):
            return
        operands = _tensors([*args, *kwargs.values()])
        if len(operands) == 1:
            self._pass_on(func, operands[0], result)
            if func in _POWERS and any(type(x) in (int, float) and x == 2 for x in args[1:]):
                self._record(result, self.of(result)._replace(part="square"))
            return
        origins = [self.of(operand) for operand in operands]
        if all(origin is UNKNOWN for origin in origins):
            if func in _PRODUCTS and operands[0] is operands[1]:
                self._record(result, Origin(part="square"))
            return
        large = [o for o, x in zip(origins, operands) if x.shape == result.shape] or [UNKNOWN]
        squared = func in _PRODUCTS and operands[0] is operands[1]
        self._record(
            result,
            Origin(
                constant=all(origin.constant for origin in origins),
                drawn=all(origin.drawn or origin.constant for origin in origins),
                made=large[0].made if all(origin.made for origin in large) else None,
                keepdim=any(origin.keepdim for origin in large),
                lost=any(origin.lost for origin in large),
                part="square" if squared else "",
            ),
        )

    def after_reduction(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Record whether a reduction kept its axis, and whether it was taken over the batch."""
        source = args[0] if args else kwargs.get("input")
        position = _REDUCTIONS[func]
        axes = kwargs.get(
            "dim", kwargs.get("axis", args[position] if len(args) > position else None)
        )
        results = _tensors(result)
        if not isinstance(source, Tensor) or not results or not results[0].dim():
            return
        axes = axes if isinstance(axes, (tuple, list)) else (axes,)
        over_batch = any(type(a) is int and a % source.dim() == 0 for a in axes)
        part: Any = "norm" if func in _NORMS else self.of(source).part
        origin = Origin(
            constant=over_batch or self.of(source).constant,
            keepdim=results[0].dim() == source.dim(),
            part=part if func in _NORMS or func in _TOTALS else "",
        )
        for tensor in results:
            self._record(tensor, origin)

    def after_extreme(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """`max` and `min`, which are operators of two tensors, and else reductions."""
        two = isinstance(kwargs.get("other", args[1] if len(args) > 1 else None), Tensor)
        (self.after_operator if two else self.after_reduction)(func, args, kwargs, result)

    def after_distance(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        """Record whether `keepdim=True` kept an axis of the distances of samples to partners."""
        if isinstance(result, Tensor) and result.dim() and isinstance(args[0], Tensor):
            self._record(result, Origin(keepdim=result.dim() == args[0].dim()))

    def _pass_on(self, func: Any, source: Tensor, result: Tensor) -> None:
        origin = self.of(source)
        if origin is not UNKNOWN:
            if func in _ROOTS and origin.part == "square":
                origin = origin._replace(part="norm")
            elif func in _SQUARES:
                origin = origin._replace(part="square")
            self._record(result, origin)
        elif func in _SQUARES:
            self._record(result, Origin(part="square"))
        elif result.dim() == 1 and not result.requires_grad:
            # The source may be a buffer of a module.
            self._record(result, Origin(root=weakref.ref(source)))


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [value for value in values if isinstance(value, Tensor)]


def _count_size1_axes(tensor: Tensor) -> int:
    return sum(type(size) is int and size == 1 for size in tensor.shape)


def same_numel(one: Tensor, other: Tensor) -> bool:
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
# The place of `dim` among the arguments.
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
        Origins.mark_constant,
    ),
    **dict.fromkeys(_named("randn", "normal"), Origins.mark_drawn),
    **dict.fromkeys(_named("tril", "triu"), Origins.mark_mask),
    **dict.fromkeys(
        _named(
            *("squeeze", "unsqueeze", "squeeze_", "unsqueeze_", "view", "reshape", "flatten"),
            *("ravel", "unflatten", "__getitem__", "select", "narrow", "t", "transpose"),
            *("permute", "movedim", "moveaxis", "swapaxes", "swapdims", "adjoint"),
            *("expand", "broadcast_to", "repeat", "tile", "atleast_2d", "atleast_3d"),
        )
        | {getattr(Tensor, name).__get__ for name in ("T", "mT", "H", "mH")},
        Origins.after_reshape,
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
        Origins.after_elementwise,
    ),
    **dict.fromkeys(_REDUCTIONS, Origins.after_reduction),
    **dict.fromkeys(_EXTREMES, Origins.after_extreme),
    **dict.fromkeys(_named("pairwise_distance", "cosine_similarity"), Origins.after_distance),
}
