"""Where a file uses losses of PyTorch, and which of the places are rewritten."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from safeloss._source import table
from safeloss._source.names import Import, Names

# What torch.nn and torch.nn.functional are called, also where another file imports them.
_USUAL = ("nn", "F")
_CHECKS = ("isinstance", "issubclass")
_TYPES = ("cast", "TypeVar", "NewType", "ForwardRef")
_SCRIPTS = ("torch.jit.script", "torch.jit.script_method", "torch.jit.script_if_tracing")
_LOSS = re.compile(r"loss|criteri", re.IGNORECASE)


class Site(NamedTuple):
    """One place that uses a loss of PyTorch."""

    line: int
    name: str  # of the loss in PyTorch; "" where it is not known
    kind: str  # what the place is, such as "call"
    left: str  # why it is left alone; "" if it is rewritten


class Use(NamedTuple):
    """A site in a syntax tree: the expression that is replaced, and the imports it goes by."""

    site: Site
    node: ast.Name | ast.Attribute
    imports: list[Import]


def uses(names: Names) -> Iterator[Use]:
    """Every expression that stands for a loss of PyTorch."""
    for node, path, imports in names.chains():
        found = table.native(path)
        if found is None:
            continue
        name, attributes = found
        kind, left = (_kind(names, node), _left(names, node))
        if attributes:
            kind, left = "attribute", f"{attributes} of the native loss is meant"
        yield Use(Site(node.lineno, name, kind, left), node, imports)


def _kind(names: Names, node: ast.AST) -> str:
    parent = names.parents[node]
    if isinstance(parent, ast.Call) and parent.func is node:
        return "call"
    if isinstance(parent, ast.ClassDef) and node in parent.bases:
        return "base class"
    return "reference"


def _left(names: Names, node: ast.Name | ast.Attribute) -> str:
    """Why an expression is not rewritten; "" if it is.

    What asks for a type is left, since a safe loss is an instance of the native class too.
    """
    if not isinstance(node.ctx, ast.Load):
        return "PyTorch's own is replaced here"
    for child, parent in names.ancestors(node):
        if isinstance(parent, ast.JoinedStr):
            return "inside an f-string"
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if child is parent.returns:
                return "an annotation"
            if any(names.path(one) in _SCRIPTS for one in parent.decorator_list):
                return "inside a function for TorchScript, which compiles native losses only"
        if isinstance(parent, (ast.arg, ast.AnnAssign)) and child is parent.annotation:
            return "an annotation"
    return _left_by(names, node)


def _left_by(names: Names, node: ast.AST) -> str:
    """Why an expression is not rewritten for what it is part of, call and class aside."""
    for child, parent in names.ancestors(node):
        if isinstance(parent, ast.Call):
            if child is parent.func or (child is node and _kind(names, node) == "call"):
                return ""
            called = getattr(parent.func, "attr", getattr(parent.func, "id", ""))
            if called in _CHECKS and child in parent.args[1:]:
                return "a check of a type, which safe losses pass"
            return "a type" if called in _TYPES else ""
        if isinstance(parent, ast.Compare):
            return "a comparison"
        if isinstance(parent, ast.Subscript) and child is parent.slice:
            return "a type or a key"
        if isinstance(parent, ast.Dict) and child in parent.keys:
            return "a key"
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitOr):
            return "a type"
        if isinstance(parent, (ast.MatchClass, ast.MatchValue)):
            return "a pattern"
        if not isinstance(parent, (ast.Tuple, ast.List)):
            return ""
    return ""


def unknown(names: Names) -> Iterator[Site]:
    """Losses that are named by a string: they are left, and said."""
    for call in names.calls:
        is_asked = isinstance(call.func, ast.Name) and call.func.id == "getattr"
        if is_asked and len(call.args) >= 2 and _of_losses(names, call):
            left = f"the name is known at run time only: {ast.unparse(call)}"
            yield Site(call.lineno, "", "getattr", left)
    for string in names.strings:
        path = str(string.value)
        found = table.native(path)
        if found and not found[1]:
            yield Site(string.lineno, found[0], "string", f"named by a string: {path!r}")
    for read in names.reads:
        if read.id in _USUAL and not names.imports_of(read):
            parent = names.parents[read]
            name = parent.attr if isinstance(parent, ast.Attribute) else ""
            if name in table.CLASSES or name in table.FUNCTIONS:
                left = f"where the name comes from is not known: {read.id}"
                yield Site(read.lineno, name, "reference", left)


def _of_losses(names: Names, node: ast.Call) -> bool:
    """Whether `getattr(nn, ...)` asks for a loss, as far as its words tell."""
    path = names.path(node.args[0])
    if path not in ("torch.nn", "torch.nn.functional", "torch.nn.modules.loss"):
        return False
    name = node.args[1]
    if isinstance(name, ast.Constant):
        return isinstance(name.value, str) and table.native(f"{path}.{name.value}") is not None
    statement: ast.AST = node
    while not isinstance(statement, ast.stmt):
        statement = names.parents[statement]
    words = node if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else statement
    return _LOSS.search(ast.unparse(words)) is not None
