"""Element-wise operators whose operands repeat each other: losses that were written by hand.

`scores [B, 1] - labels [B]` is `[B, B]`. What is outer on purpose has the same shapes; it says so
in its own statement, by making the axis.
"""

import ast
import functools
import itertools
import linecache
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.patterns import Shape, fits
from safeloss._messages.explain import describe
from safeloss._messages.stack import Line
from safeloss._torch import tracing, unhandled
from safeloss.errors import Argument, LayoutError, SafeLossError

_BINARY = (
    *("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "truediv"),
    *("floor_divide", "floordiv", "remainder", "mod", "pow", "maximum", "minimum"),
    *("eq", "ne", "lt", "le", "gt", "ge", "less", "greater", "less_equal", "greater_equal"),
    *("and", "or", "xor", "logical_and", "logical_or", "logical_xor"),
)
# In place nothing of the result's own can be repeated: torch raises.
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

_INSERTING = ("unsqueeze", "expand", "expand_as", "broadcast_to")
_RESHAPING = ("view", "reshape")


def repeats(one: Shape, other: Shape) -> bool:
    """Whether shapes that are equal up to axes of size 1 repeat each other when broadcast."""
    pairs = itertools.zip_longest(reversed(one), reversed(other), fillvalue=1)
    return fits(one, other) and math.prod(map(max, pairs)) > math.prod(one) > 0


def is_legible(tensor: Tensor) -> bool:
    """Whether its sizes are numbers: neither nested nor symbolic."""
    return not tensor.is_nested and not any(isinstance(n, torch.SymInt) for n in tensor.shape)


def name(func: Any) -> str:
    """`sub`, however it was spelled: `Tensor.__rsub__` is `rsub`."""
    return str(func.__name__).strip("_")


def repeated(func: Any, args: Any, given: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The first two operands, by name, that repeat each other; the one of more axes first."""
    if tracing():
        return None
    named = {**dict(zip(OPERATORS[func], args)), **given}
    with unhandled():
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if len({tensor.dim() for tensor in tensors.values()}) < 2:
            return None
        legible = [name for name, tensor in tensors.items() if is_legible(tensor)]
        for pair in itertools.combinations(legible, 2):
            one, other = sorted(pair, key=lambda name: -tensors[name].dim())
            if repeats(tensors[one].shape, tensors[other].shape):
                return {one: tensors[one], other: tensors[other]}
    return None


def explain(operator: str, pair: Mapping[str, Tensor]) -> SafeLossError:
    """The error for two operands that repeat each other."""
    one, other = pair
    result = torch.broadcast_shapes(*[tensor.shape for tensor in pair.values()])
    return LayoutError.about(
        operator,
        f"`{one}` and `{other}` differ by axes of size 1, and broadcasting repeats both.",
        code=codes.BROADCAST,
        arguments=tuple(Argument(n, describe(t.dtype, t.shape), "") for n, t in pair.items()),
        native=f"{operator} says nothing and broadcasts to [{', '.join(map(str, result))}].",
        advice=f"If every one shall meet every other, say so: `{other}[None]`.",
        fixes=(f"{other}.view_as({one})", f"safeloss.align({other}, like={one})"),
    )


@functools.lru_cache(1024)
def on_purpose(line: Line) -> bool:
    """Whether the statement at `line` itself makes an axis of size 1, or expands.

    A sum that keeps its axis counts also under a name of the same function: squared distances are
    `(x * x).sum(1, keepdim=True) + (y * y).sum(1)`, mostly on two lines.
    """
    around = [
        node
        for node in ast.walk(_parsed(line.file))
        if isinstance(node, (ast.stmt, ast.Lambda))
        and node.lineno <= line.number <= (node.end_lineno or 0)
    ]
    if not around:
        return False
    around.sort(key=lambda node: (node.lineno, node.col_offset))
    own = list(_expressions(around[-1]))
    names = {node.id for node in own if isinstance(node, ast.Name)}
    functions = [node for node in around if isinstance(node, ast.FunctionDef)]
    kept = any(_keeps(node) for node in _assigned(names, functions[-1])) if functions else False
    return kept or any(_inserts(node) for node in own)


def _assigned(names: set[str], function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The expressions that `function` gives any of `names`."""
    for statement in ast.walk(function):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if names & {target.id for target in targets if isinstance(target, ast.Name)}:
            yield from _expressions(statement)


def _expressions(statement: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt):
            yield from ast.walk(child)


@functools.lru_cache(64)
def _parsed(file: str) -> ast.AST:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:  # a cell with magic in it
        return ast.Module([], [])


def _inserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        index = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return any(ast.unparse(part).endswith(("None", "newaxis")) for part in index)
    if not isinstance(node, ast.Call):
        return False
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    ones = [argument for argument in node.args if ast.unparse(argument) == "1"]
    return called in _INSERTING or (called in _RESHAPING and bool(ones)) or _keeps(node)


def _keeps(node: ast.AST) -> bool:
    words = node.keywords if isinstance(node, ast.Call) else []
    return any(word.arg == "keepdim" and ast.unparse(word.value) == "True" for word in words)
