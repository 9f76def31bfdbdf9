"""What a frame of the user's code evaluates, as it stands in the source, and the values there.

The source is found by the positions that Python 3.11 keeps for each instruction. Nothing is found
where they or the source are missing, or where the file has changed. A value is looked up only where
that runs no code of the user's.
"""

import ast
import builtins
import functools
import inspect
import itertools
import linecache
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

from torch import nn

from safeloss._messages.syntax import parsed

UNKNOWN: Any = object()  # a value that only running the user's code would give
_HELD_BY_ITS_FRAME = 3  # references to a dict: of its frame, of a variable, and of an argument


class Expression(NamedTuple):
    """A part of the user's source code."""

    node: ast.expr
    text: str  # in one line

    @property
    def may_repeat(self) -> bool:
        """Whether to evaluate it twice changes nothing."""
        once = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.comprehension)
        return not any(isinstance(node, once) for node in ast.walk(self.node))

    def spelled(self, is_argument: bool) -> str:
        """Its text as an argument of a call, or where a method or an operator follows."""
        atoms = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)
        loose = (ast.NamedExpr, ast.Yield, ast.YieldFrom)
        bare = not isinstance(self.node, loose) if is_argument else isinstance(self.node, atoms)
        return self.text if bare else f"({self.text})"


class WrittenCall(NamedTuple):
    """A call as it stands in the user's source code."""

    callee: Expression
    positional: tuple[Expression, ...]
    by_name: tuple[tuple[str, Expression], ...]


def written_call(frame: FrameType) -> WrittenCall | None:
    """The call that `frame` is in, as it stands in its source."""
    place = _place(frame)
    if place is None:
        return None
    lines = place.lines
    call = _calls(place.source).get(place.span[2:])
    if call is None or not _is_compiled_to(call, frame.f_code):
        return None
    if any(isinstance(part, ast.Starred) for part in call.args):
        return None
    by_name = [(keyword.arg, _expression(keyword.value, lines)) for keyword in call.keywords]
    named = tuple((name, expression) for name, expression in by_name if name is not None)
    if len(named) < len(by_name):  # `**options`
        return None
    positional = tuple(_expression(part, lines) for part in call.args)
    return WrittenCall(_expression(call.func, lines), positional, named)


def written_operation(frame: FrameType) -> tuple[ast.BinOp | ast.Compare, list[Expression]] | None:
    """The operator of two operands that `frame` applies, and those, as they stand in its source."""
    place = _place(frame)
    node = None if place is None else _operators(place.source).get(place.span)
    if place is None or node is None or not _is_compiled_to(node, frame.f_code):
        return None
    sides = [node.left, *([node.right] if isinstance(node, ast.BinOp) else node.comparators)]
    return node, [_expression(side, place.lines) for side in sides]


def value_of(node: ast.expr, frame: FrameType) -> Any:
    """The value of an expression, if looking it up runs no code of the user's."""
    if isinstance(node, ast.Name):
        for names in (locals_of(frame), frame.f_globals, vars(builtins)):
            if node.id in names:
                return names[node.id]
    elif isinstance(node, ast.Attribute):
        owner = value_of(node.value, frame)
        if isinstance(owner, ModuleType):
            return vars(owner).get(node.attr, UNKNOWN)
        if isinstance(owner, nn.Module):
            for names in (owner._modules, owner._buffers, owner._parameters):
                if node.attr in names:
                    return names[node.attr]
    elif isinstance(node, ast.Subscript):
        owner, key = value_of(node.value, frame), _key(node.slice, frame)
        if type(owner) in (dict, list, tuple) and type(key) in (str, int):
            try:
                return owner[key]
            except LookupError:
                return UNKNOWN
    return UNKNOWN


def _key(node: ast.expr, frame: FrameType) -> Any:
    return node.value if isinstance(node, ast.Constant) else value_of(node, frame)


def locals_of(frame: FrameType) -> Mapping[str, Any]:
    """The local variables of `frame`.

    Before Python 3.13 a frame keeps the dict that it gives, and so would hold tensors that the user
    has deleted. It is emptied, unless somebody else has it: it is that of `locals()`, too.
    """
    known = frame.f_locals
    if sys.version_info >= (3, 13) or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return known
    copied = dict(known)
    if sys.getrefcount(known) == _HELD_BY_ITS_FRAME:
        known.clear()
    return copied


class _Place(NamedTuple):
    """What a frame evaluates: the lines of its file, and where in them it stands."""

    lines: list[str]
    span: tuple[int | None, int | None, int | None, int | None]  # lines and columns, from and to

    @property
    def source(self) -> str:
        return "".join(self.lines)


def _place(frame: FrameType) -> _Place | None:
    """What `frame` evaluates; None before Python 3.11."""
    code = frame.f_code
    if sys.version_info < (3, 11):
        return None
    first, last, begin, end = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None))
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    return _Place(lines, (first, begin, last, end))


@functools.lru_cache(32)
def _calls(source: str) -> dict[tuple[int | None, int | None], ast.Call]:
    """All calls in `source` by the place of their closing bracket, of which each has its own."""
    calls = [node for node in _nodes(source) if isinstance(node, ast.Call)]
    return {(call.end_lineno, call.end_col_offset): call for call in calls}


@functools.lru_cache(32)
def _operators(
    source: str,
) -> dict[tuple[int | None, int | None, int | None, int | None], ast.BinOp | ast.Compare]:
    """All operators of two operands in `source`, by where they begin and end."""
    return {
        (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset): node
        for node in _nodes(source)
        if isinstance(node, ast.BinOp) or (isinstance(node, ast.Compare) and len(node.ops) == 1)
    }


def _nodes(source: str) -> Iterator[ast.AST]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes, which Python has told before
            return ast.walk(parsed(source, "exec"))
    except (SyntaxError, ValueError):  # the file has changed
        return iter(())


def _expression(node: ast.expr, lines: list[str]) -> Expression:
    if node.lineno != node.end_lineno:
        return Expression(node, ast.unparse(node))
    line = lines[node.lineno - 1].encode()
    return Expression(node, line[node.col_offset : node.end_col_offset].decode())


def _is_compiled_to(expression: ast.expr, code: CodeType) -> bool:
    """Whether `code` has all the names and strings of `expression`: else the file has changed."""
    known = set(names_of(code))
    for node in ast.walk(expression):
        parts = [getattr(node, field, None) for field in ("id", "attr", "arg")]
        parts += [node.value] if isinstance(node, ast.Constant) else []
        for part in parts:
            if isinstance(part, str) and part not in known:
                private = part.startswith("__")
                if not (private and any(name.endswith(part) for name in known)):
                    return False
    return True


def names_of(code: CodeType) -> Iterator[str]:
    """The names and strings in `code`, and in the functions that are defined there."""
    yield from (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_of(constant)
        elif isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple):  # names of arguments
            yield from (part for part in constant if isinstance(part, str))
