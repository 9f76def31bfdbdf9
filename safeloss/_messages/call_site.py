"""A refusal in the user's own names: what stands for each argument where the loss was called.

All of it runs only when about to raise. Where the source of the call is not found (see
`expressions`), where arguments come from a star, or where what stands there is not what the loss
was given, the names of the parameters remain.
"""

import ast
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from safeloss._messages.expressions import (
    UNKNOWN,
    Expression,
    WrittenCall,
    locals_of,
    names_of,
    value_of,
    written_call,
    written_operation,
)
from safeloss._messages.stack import Line, is_ours, is_users, users_frame
from safeloss._messages.syntax import parsed
from safeloss.errors import SafeLossError

_Error = TypeVar("_Error", bound=SafeLossError)

_MODULES = str(nn.modules.module.__file__)  # `nn.Module.__call__` may stand between call and loss
_LIBRARIES = ("site-packages", "dist-packages")
_STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
# A fix that is a whole call, and not an edit of the argument that it names first.
_WHOLE_CALL = re.compile(r"(?!torch\.|safeloss\.align)([A-Za-z_][\w.]*)\(")


class UsersCall(NamedTuple):
    """The call of a loss, and what each argument is called there."""

    written: WrittenCall
    frame: FrameType  # of the user's
    entered: FrameType  # the function of ours that was called
    bound: Mapping[str, Expression]  # by the parameters of that function
    places: Mapping[str, str]  # those parameters, by the names of the error
    held: Mapping[str, Expression]  # what the module has: `criterion.weight`

    @property
    def expressions(self) -> dict[str, Expression]:
        """By the names of the error."""
        return {**self.held, **{name: self.bound[place] for name, place in self.places.items()}}

    def with_fix(self, fix: str, parameters: Mapping[str, Any]) -> str:
        """The call with `fix` applied; empty where the fix belongs elsewhere."""
        whole = _WHOLE_CALL.match(fix)
        if whole is not None and whole[1].partition(".")[0] not in parameters:
            code = self.entered.f_code
            spelled = code.co_name, f"safeloss.functional.{code.co_name}"  # as the user calls it
            own = whole[1] in spelled and is_ours(code.co_filename)
            return self._in_own_names(f"loss{fix[whole.end(1) :]}" if own else fix)
        named = [name for name in _names_in_order(fix) if name in parameters]
        place = self.places.get(named[0]) if named else None
        if place is None:
            return ""
        count = len(self.written.positional)
        arguments = [fix if name == place else name for name in [*self.bound][:count]]
        arguments += [
            f"{name}={fix if name == place else name}" for name, _ in self.written.by_name
        ]
        return self._in_own_names(f"loss({', '.join(arguments)})")

    def _in_own_names(self, source: str) -> str:
        """`source`, with the user's expressions for the names of arguments, and for `loss`."""
        expressions = {**self.bound, **self.expressions, "loss": self.written.callee}
        return _in_own_names(source, expressions, self.frame)


class UsersOperator(NamedTuple):
    """An operator in the user's source code, such as `pred - y`, `pred == y` or `pred.sub(y)`."""

    source: str  # of it, with the names of the error in the place of its operands
    operands: Mapping[str, Expression]  # by those names
    callee: Mapping[str, Expression]  # `torch.sub`, which is called `loss` in `source`
    frame: FrameType

    @property
    def expressions(self) -> dict[str, str]:
        """What stands for each operand."""
        return {name: expression.text for name, expression in self.operands.items()}

    def respelled(self, source: str) -> str:
        """`source` with what stands for each operand."""
        return _in_own_names(source, {**self.operands, **self.callee}, self.frame)

    def with_fix(self, fix: str) -> str:
        """The operation with `fix` applied, which names first the operand that it edits."""
        edited = next(name for name in _names_in_order(fix) if name in self.operands)
        (node,) = _name_nodes(parsed(self.source), {edited: fix})
        source = self.source[: node.col_offset] + fix + self.source[node.end_col_offset :]
        return self.respelled(source)


def _in_own_names(source: str, expressions: Mapping[str, Expression], frame: FrameType) -> str:
    """`source` with the user's `expressions` for the names that stand there."""
    tree = parsed(source)
    public = {name: _public(name, frame) for name in _names_in_order(source)}
    expressions = {
        **{name: found for name, found in public.items() if found is not None},
        **expressions,
    }
    nodes = _name_nodes(tree, expressions)
    repeated = Counter(node.id for node in nodes)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    arguments = [part for call in calls for part in call.args]
    values = [keyword.value for call in calls for keyword in call.keywords]
    taken, kept = set(names_of(frame.f_code)), dict[str, str]()
    line, end = b"", 0
    for node in nodes:
        expression = expressions[node.id]
        if node.id in kept:
            text = kept[node.id]
        elif repeated[node.id] > 1 and not expression.may_repeat:
            # `next(batches)` may stand there once only.
            name = kept[node.id] = node.id if node.id not in taken else f"{node.id}_"
            text = f"{name} := {expression.text}"
            text = text if node in arguments else f"({text})"
        else:
            text = expression.spelled(node in arguments or node in values)
        line += source.encode()[end : node.col_offset] + text.encode()
        end = node.end_col_offset or 0
    return (line + source.encode()[end:]).decode()


def in_users_names(
    error: _Error,
    given: Mapping[str, Any],
    frame: FrameType | None = None,
    is_callee: Callable[[str], bool] = is_ours,
) -> _Error:
    """`error`, also in the names of the line that made the call; `given` are its arguments.

    The line is that of `frame`, or the user's; `is_callee` says of a file whether what it called,
    and what that calls, is there.
    """
    frame = frame or users_frame()
    if frame is None:
        return error
    error.called_by = called_by(frame, "called this loss")
    if error.called_by:
        return error
    call = _users_call(frame, given, is_callee)
    if call is not None:
        expressions = call.expressions
        error.expressions = {
            row.name: expressions[row.name].text
            for row in error.arguments
            if row.name in expressions
        }
        lines = {fix: call.with_fix(fix, given) for fix in error.fixes}
        error.calls = {fix: line for fix, line in lines.items() if line}
    return error


def name_arguments(error: SafeLossError, given: Mapping[str, Any]) -> None:
    """Tell `error` what stands for the arguments `given`, in their order, where the user called.

    For a function of the user's that a function of ours wraps, perhaps the `forward` of a module.
    """
    frame, files = users_frame(), list[str]()
    inner: FrameType | None = sys._getframe(1)
    while inner is not None and inner is not frame:
        # What is outside of our own frames may pass on other arguments.
        files = [] if is_ours(inner.f_code.co_filename) else [*files, inner.f_code.co_filename]
        inner = inner.f_back
    if set(files) - {_MODULES}:
        return
    written = None if frame is None else written_call(frame)
    if frame is None or written is None:
        return
    names = [name for name in given if name != "self"]
    standing = {**dict(zip(names, written.positional)), **dict(written.by_name)}
    if len(written.positional) > len(names) or not set(standing) <= set(names):
        return
    values = {name: value_of(expression.node, frame) for name, expression in standing.items()}
    if all(value is UNKNOWN or value is given[name] for name, value in values.items()):
        error.expressions = {name: expression.text for name, expression in standing.items()}
        for fix in error.fixes:
            callee = fix.partition("(")[0]
            error.calls = {**error.calls, fix: _replaced(fix, {**standing, callee: written.callee})}


def _replaced(source: str, expressions: Mapping[str, Expression]) -> str:
    """`source`, a call, with `expressions` for the names of its arguments."""
    for node in reversed(_name_nodes(parsed(source), expressions)):
        text = expressions[node.id].spelled(is_argument=True)
        source = source[: node.col_offset] + text + source[node.end_col_offset :]
    return source


def _is_in_library(filename: str) -> bool:
    return any(folder in Path(filename).parts for folder in _LIBRARIES)


def called_by(frame: FrameType, did: str) -> str:
    """Which library `did` it at `frame`, and which line outside of libraries led there.

    Empty where it was no library.
    """
    if not _is_in_library(frame.f_code.co_filename):
        return ""
    parts = Path(frame.f_code.co_filename).parts
    folder = max(place for place, part in enumerate(parts) if part in _LIBRARIES)
    said = f"{Path(parts[folder + 1]).stem} {did}"
    outer = frame.f_back
    while outer is not None:
        filename = outer.f_code.co_filename
        if is_users(filename) and not _is_in_library(filename):
            line = Line(filename, outer.f_lineno)
            return f"{said}, and your line is {line}: {line.text}".rstrip(": ")
        outer = outer.f_back
    return f"{said}."


def _users_call(
    frame: FrameType, given: Mapping[str, Any], is_callee: Callable[[str], bool]
) -> UsersCall | None:
    """The call that `frame` is in, if it can be read and gives the loss what stands there."""
    entered, written = _entered_frame(frame, is_callee), written_call(frame)
    if entered is None or written is None:
        return None
    bound = _bound(written, entered, frame)
    if bound is None:
        return None
    values, places = locals_of(entered), {}
    for name, value in given.items():
        # A module may call a parameter otherwise.
        others = [place for place in bound if given.get(place, UNKNOWN) is not values[place]]
        found = [p for p in (name, *others) if p in bound and values[p] is value]
        if value is not None and found:
            places[name] = found[0]
    held = _held(written.callee, frame, given)
    return UsersCall(written, frame, entered, bound, places, held)


def _entered_frame(frame: FrameType, is_callee: Callable[[str], bool]) -> FrameType | None:
    """The frame of the loss that `frame` calls, with nothing between but `nn.Module.__call__`."""
    entered: FrameType | None = None
    inner: FrameType | None = sys._getframe(1)
    while inner is not None and inner is not frame:
        filename = inner.f_code.co_filename
        if is_callee(filename):
            if not inner.f_code.co_flags & _STARS:  # that only pass on what they are given
                entered = inner
        elif entered is not None and not (filename == _MODULES and _passes_on(inner, entered)):
            entered = None
        inner = inner.f_back
    return entered


def _passes_on(caller: FrameType, entered: FrameType) -> bool:
    """Whether `entered` got the arguments of `nn.Module.__call__`: no hook has changed them."""
    names, given = locals_of(caller), [*locals_of(entered).values()]
    passed = (*names.get("args", ()), *names.get("kwargs", {}).values())
    return all(any(value is other for other in given) for value in passed)


def users_operator(frame: FrameType, given: Mapping[str, Any]) -> UsersOperator | None:
    """The operator that `frame` applies, if it can be read and its operands are those `given`."""
    found = _written_operator(frame, [*given])
    if found is not None:
        for name, expression in found.operands.items():
            value = value_of(expression.node, frame)
            if value is not UNKNOWN and value is not given[name]:
                return None
    return found


def _written_operator(frame: FrameType, names: list[str]) -> UsersOperator | None:
    """The operator that `frame` applies, as it stands in its source, with operands of `names`."""
    operation = written_operation(frame)
    if operation is not None:
        node, sides = operation
        one, other = (ast.Name(name) for name in names)
        if isinstance(node, ast.BinOp):
            renamed: ast.expr = ast.BinOp(one, node.op, other)
        else:
            renamed = ast.Compare(one, node.ops, [other])
        return UsersOperator(ast.unparse(renamed), dict(zip(names, sides)), {}, frame)
    call = written_call(frame)
    if call is None:
        return None
    callee, positional, by_name = call
    function, own = "loss", 0
    if isinstance(callee.node, ast.Attribute) and len(positional) + len(by_name) < len(names):
        owner = callee.text.rpartition(".")[0].rstrip()  # `pred` of `pred.sub`
        positional = (Expression(callee.node.value, owner), *positional)
        function, own = f"{names[0]}.{callee.node.attr}", 1
    operands = {**dict(zip(names, positional)), **dict(by_name)}
    if len(positional) + len(by_name) != len(names) or set(operands) != set(names):
        return None
    arguments = [*names[own : len(positional)], *(f"{name}={name}" for name, _ in by_name)]
    source = f"{function}({', '.join(arguments)})"
    return UsersOperator(source, operands, {"loss": callee}, frame)


def _bound(
    written: WrittenCall, entered: FrameType, frame: FrameType
) -> dict[str, Expression] | None:
    """What stands for each parameter of `entered`; None where that is not what it was given."""
    code = entered.f_code
    if code.co_flags & _STARS:
        return None
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    positional = [name for name in names[: code.co_argcount] if name != "self"]
    callee = value_of(written.callee.node, frame)
    elsewhere: list[str] = ["self"]
    if isinstance(callee, functools.partial):
        elsewhere += [*positional[: len(callee.args)], *callee.keywords]
        positional = positional[len(callee.args) :]
    bound = {**dict(zip(positional, written.positional)), **dict(written.by_name)}
    if len(written.positional) > len(positional) or not set(bound) <= set(names):
        return None
    for name in names:
        given = locals_of(entered).get(name)
        if name in bound:
            value = value_of(bound[name].node, frame)
            if value is not UNKNOWN and value is not given:
                return None
        elif isinstance(given, Tensor) and name not in elsewhere:
            return None
    return bound


def _held(callee: Expression, frame: FrameType, given: Mapping[str, Any]) -> dict[str, Expression]:
    """The tensors among `given` that the module has which is called."""
    module = value_of(callee.node, frame)
    if not isinstance(module, nn.Module):
        return {}
    tensors = {**module._buffers, **module._parameters}
    found = [name for name, value in given.items() if value is not None]
    return {
        name: Expression(ast.Attribute(callee.node, name), f"{callee.text}.{name}")
        for name in found
        if tensors.get(name) is given[name]
    }


def _public(name: str, frame: FrameType) -> Expression | None:
    """How `frame` spells a public name of this library that it has not imported: `safeloss.X`."""
    library = sys.modules["safeloss"]
    if name not in library.__all__ or value_of(ast.Name(name), frame) is not UNKNOWN:
        return None
    for alias, value in {**frame.f_globals, **locals_of(frame)}.items():
        if value is library:
            return Expression(ast.Attribute(ast.Name(alias), name), f"{alias}.{name}")
    return None


def _name_nodes(tree: ast.AST, names: Mapping[str, Any]) -> list[ast.Name]:
    """The places of `names` in one line of source, from left to right."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names]
    return sorted(nodes, key=lambda node: node.col_offset)


def _names_in_order(source: str) -> list[str]:
    tree = parsed(source)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return [node.id for node in sorted(nodes, key=lambda node: node.col_offset)]
