"""Element-wise operators whose operands repeat each other: losses that were written by hand.

`scores [B, 1] - labels [B]` is `[B, B]`. What is outer on purpose has the same shapes, and is told
apart by what its operands are: see `is_accident`.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from safeloss._contract import codes
from safeloss._contract.patterns import Shape, fits
from safeloss._guard.origins import FOLLOWED, Origin, Origins, same_numel
from safeloss._messages.call_site import called_by, users_operator
from safeloss._messages.explain import describe
from safeloss._torch import tracing, unhandled
from safeloss.errors import Argument, LayoutError, SafeLossError

_BINARY = (
    *("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "truediv"),
    *("floor_divide", "floordiv", "remainder", "mod", "pow", "maximum", "minimum", "max", "min"),
    *("eq", "ne", "lt", "le", "gt", "ge", "less", "greater", "less_equal", "greater_equal"),
    *("and", "or", "xor", "logical_and", "logical_or", "logical_xor"),
)
# Operators in place are left out: PyTorch raises where the result of a broadcast does not fit.
OPERATORS: dict[Any, tuple[str, ...]] = {
    **{
        getattr(owner, spelled): ("input", "other")
        for owner in (torch, Tensor)
        for name in _BINARY
        for spelled in (name, f"__{name}__", f"__r{name}__")
        if hasattr(owner, spelled)
    },
    torch.where: ("condition", "input", "other"),
    Tensor.where: ("input", "condition", "other"),
}

FOLLOWED.update({func: Origins.after_operator for func in OPERATORS if func not in FOLLOWED})

# Nodes of autograd that give each number of a tensor a new value, and leave it where it is.
_NUMBERS_ONLY = frozenset(
    {
        *("Abs", "Add", "Alias", "Clamp", "ClampMin", "ClampMax", "Clone", "Div", "Exp", "Expm1"),
        *("Log", "Log1P", "LogSigmoid", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Reshape"),
        *("ReshapeAlias", "Rsqrt", "Rsub", "Sigmoid", "Softplus", "Sqrt", "Squeeze", "Sub"),
        *("Tanh", "ToCopy", "Unsqueeze", "UnsafeView", "View"),
    }
)
_MAX_NODES = 64


class Pair(NamedTuple):
    """Two operands of one operator that repeat each other."""

    operator: str  # "sub"
    large: str  # the parameter whose tensor has more axes
    small: str
    operands: Mapping[str, Any]  # all, by parameter, in order
    same_up_to_ones: bool  # equal up to axes of size 1, so one may be the target of the other

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        return self.operands[self.large], self.operands[self.small]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Both by parameter, the one with more axes first."""
        return dict(zip((self.large, self.small), self.both))


def repeats(one: Shape, other: Shape) -> bool:
    """Whether shapes that are equal up to axes of size 1 repeat each other when broadcast."""
    return fits(one, other) and _broadcast_grows(one, other)


def viewed(name: str, came: Shape, like: str, shape: Shape) -> str:
    """The code that gives `name`, of the shape `came`, that of `like`: by its axis of size 1, if it
    is one."""
    for method, longer, shorter in (("unsqueeze", shape, came), ("squeeze", came, shape)):
        for axis, size in enumerate(longer):
            if size == 1 and (*longer[:axis], *longer[axis + 1 :]) == tuple(shorter):
                return f"{name}.{method}({axis})"
    return f"{name}.view_as({like})"


def _broadcast_grows(one: Shape, other: Shape) -> bool:
    pairs = itertools.zip_longest(reversed(one), reversed(other), fillvalue=1)
    joint = math.prod([a if b == 1 else b for a, b in pairs])
    return joint > max(math.prod(one), math.prod(other)) and 0 not in (*one, *other)


def is_legible(tensor: Tensor) -> bool:
    """Whether its sizes are numbers: neither nested nor symbolic."""
    return not tensor.is_nested and not any(isinstance(n, torch.SymInt) for n in tensor.shape)


def operator_name(func: Any) -> str:
    """`sub`, however it was spelled: `Tensor.__rsub__` is `rsub`."""
    return str(func.__name__).strip("_")


def find_pair(func: Any, args: Any, given: Mapping[str, Any]) -> Pair | None:
    """Two operands of different rank that repeat each other; first of all, two of the same shape up
    to axes of size 1."""
    if tracing():
        return None
    named = {**dict(zip(OPERATORS[func], args)), **given}
    with unhandled():
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if len({tensor.dim() for tensor in tensors.values()}) < 2:
            return None
        legible = [name for name, tensor in tensors.items() if is_legible(tensor)]
        pairs = []
        for both in itertools.combinations(legible, 2):
            large, small = sorted(both, key=lambda name: -tensors[name].dim())
            shapes = tensors[large].shape, tensors[small].shape
            if len(shapes[0]) > len(shapes[1]) and _broadcast_grows(*shapes):
                pairs.append(Pair(operator_name(func), large, small, named, fits(*shapes)))
    return max(pairs, key=lambda pair: pair.same_up_to_ones, default=None)


def is_accident(pair: Pair, seen: Origins, frame: FrameType) -> bool:
    """Whether nobody wanted `pair` to repeat each other, as far as is known where `frame` calls.

    An axis of size 1 that a model, a data loader or a reduction left is an accident. One that the
    user added is meant, unless the other operand has just lost such an axis, or is the prediction
    and the axis was added to its target. A parameter, a buffer, a grid and a statistic of the batch
    belong to no sample, so they are never targets. Random numbers that a column of data is
    multiplied by are frequencies, as of Fourier features.
    """
    with unhandled():
        large, small = pair.both
        of_large, of_small = seen.of(large), seen.of(small)
        if _share_elements(large, small) or of_large.constant or of_small.constant:
            return False
        if _is_parameter(large, of_large, frame) or _is_parameter(small, of_small, frame):
            return False
        if of_large.keepdim:
            return not _is_pairwise(pair.operator, of_large, of_small)
        if of_small.drawn and _is_product(pair.operator) and not _is_prediction(large):
            return False
        return of_large.made is None or not _is_meant(large, small, of_large, of_small, frame)


def _is_meant(
    large: Tensor, small: Tensor, of_large: Origin, of_small: Origin, frame: FrameType
) -> bool:
    """Whether the axis that the user made in `large` is for this operation."""
    made = of_large.made
    assert made is not None
    here, at_once = made.made_in_function(frame), made.made_in_expression(frame)
    predicts = _is_prediction(large), _is_prediction(small)
    if predicts[0] != predicts[1]:
        of_the_target = predicts[1] and small.dim() == 1
        return here and not of_small.lost and (at_once or not of_the_target)
    if of_small.lost and not at_once:
        return False
    return here or any(made.sites[0][0] is running.f_code for running in _frames(frame))


def _is_prediction(tensor: Tensor) -> bool:
    return tensor.requires_grad and not tensor.is_leaf


def _is_product(operator: str) -> bool:
    return operator.endswith(("mul", "multiply"))


def _is_pairwise(operator: str, of_large: Origin, of_small: Origin) -> bool:
    """Whether these are the terms of pairwise distances, or the norms of pairwise cosines."""
    if operator.endswith("add") and of_large.part == "square":
        seen = of_small._replace(root=None) != Origin()
        return of_small.part == "square" or not seen
    return _is_product(operator) and of_large.part == of_small.part == "norm"


def _share_elements(one: Tensor, other: Tensor) -> bool:
    """Whether both are views of the same elements, as in `x[:, None] - x`."""
    bases = [one if one._base is None else one._base, other if other._base is None else other._base]
    return bases[0] is bases[1] and one.storage_offset() == other.storage_offset()


def _is_parameter(tensor: Tensor, origin: Origin, frame: FrameType) -> bool:
    """Whether it is a parameter or a buffer of a running module, or computed from one alone."""
    source = tensor if origin.root is None else origin.root()
    if isinstance(source, nn.Parameter) or _is_learnt(tensor):
        return True
    bases = (source, None if source is None else source._base)
    return any(held is base for held in _module_tensors(frame) for base in bases)


def _is_learnt(tensor: Tensor) -> bool:
    """Whether autograd knows it as an element-wise function of parameters alone.

    A leaf with several axes that is no `nn.Parameter` may be an input, as in an adversarial attack.
    """
    if tensor.grad_fn is None:
        return tensor.requires_grad and tensor.dim() < 2
    nodes: list[Any] = [tensor.grad_fn]
    leaves: list[Tensor] = []
    for _ in range(_MAX_NODES):
        if not nodes:
            return all(isinstance(x, nn.Parameter) and same_numel(x, tensor) for x in leaves)
        node = nodes.pop()
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        elif node.name().partition("Backward")[0] in _NUMBERS_ONLY:
            nodes += [following for following, _ in node.next_functions if following is not None]
        else:
            return False
    return False


def _module_tensors(frame: FrameType) -> Iterator[Tensor]:
    """The tensors of the modules whose methods are running."""
    for running in _frames(frame):
        code = running.f_code
        module = running.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        if isinstance(module, nn.Module):
            yield from filter(torch.is_tensor, (*module._buffers.values(), *vars(module).values()))


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def error_for(pair: Pair, seen: Origins, frame: FrameType) -> SafeLossError:
    """The error for two operands that repeat each other, which `frame` gives an operator."""
    one, other = pair.large, pair.small
    with unhandled():
        large, small = pair.both
        result = torch.broadcast_shapes(large.shape, small.shape)
        origin = seen.of(large)
        rows = [Argument(n, describe(t.dtype, t.shape), "") for n, t in pair.tensors.items()]
        view = viewed(other, tuple(small.shape), one, tuple(large.shape))
    library = called_by(frame, "computes this")
    written = None if library else users_operator(frame, pair.operands)
    said = {} if written is None else written.expressions
    first, second = (said.get(name, name) for name in (one, other))
    how = ""
    if origin.keepdim:
        how = f"`keepdim=True` has left `{first}` an axis of size 1. "
    elif origin.made is not None:
        how = f"`{first}` was given its axis of size 1 at {origin.made.line}. "
    on_purpose = f"{other}[None]" if written is None else written.respelled(f"{other}[None]")
    fixes = (view, f"safeloss.align({other}, like={one})")
    return LayoutError.about(
        pair.operator,
        f"`{first}` and `{second}` differ by axes of size 1, and broadcasting repeats both.",
        code=codes.BROADCAST,
        arguments=tuple(rows),
        native=f"{pair.operator} says nothing and broadcasts to [{', '.join(map(str, result))}].",
        advice=f"{how}If every one shall meet every other, say so: `{on_purpose}`.",
        fixes=fixes,
        expressions=said,
        calls={} if written is None else {fix: written.with_fix(fix) for fix in fixes},
        called_by=library,
    )
