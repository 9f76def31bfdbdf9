"""Imports that are added where they belong, and those that are not needed any more taken out."""

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import libcst as cst

from safeloss._source.files import Positions
from safeloss._source.names import Import, Names, Scope

T = TypeVar("T")
Comma: TypeAlias = cst.Comma | cst.MaybeSentinel

_WIDTH = 88  # of a line, as most formatters have it


class Edit(NamedTuple):
    """A part of a text, and what takes its place."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after the edits, none of which overlap.

    >>> apply("a b", [Edit(2, 3, "c"), Edit(0, 0, "> ")])
    '> a c'
    """
    parts, done = [], 0
    for edit in sorted(edits):
        assert edit.start >= done, "edits overlap"
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*parts, text[done:]])


def added(paths: Iterable[tuple[str, str]], width: int) -> list[str]:
    """The statements that import names of safeloss, given as (path, name to bind), one a line.

    >>> added([("safeloss.SafeMSELoss", "SafeMSELoss"), ("safeloss.functional", "SF")], 80)
    ['from safeloss import SafeMSELoss', 'from safeloss import functional as SF']
    """
    plain, renamed = [], []
    for path, name in sorted(set(paths)):
        last = path.rpartition(".")[2]
        if last == name:
            plain.append(name)
        else:
            renamed.append(f"from safeloss import {last} as {name}")
    if not plain:
        return renamed
    line = f"from safeloss import {', '.join(plain)}"
    if len(line) > width:
        line = "\n".join(["from safeloss import (", *(f"    {name}," for name in plain), ")"])
    return [line, *renamed]


def insertion(source: Positions, anchor: Import, paths: Iterable[tuple[str, str]]) -> Edit:
    """The imports of safeloss, in the block of imports that a name of torch is imported in."""
    start, end = source.span(anchor.statement)
    line = source.line(anchor.statement.lineno)[0]
    _, after = source.line(anchor.statement.end_lineno or 0)
    indent = source.text[line:start]
    rest = source.text[end:after].strip()
    if indent.strip() or (rest and not rest.startswith("#")):
        # It shares its line with other statements, and so do the new ones.
        return Edit(end, end, "".join(f"; {one}" for one in added(paths, 1 << 30)))
    block = _block(source, anchor)
    ended = re.search(r"\r\n|\r|\n", source.text[line:])  # by the first line of the statement
    newline = ended[0] if ended else "\n"
    written = "\n".join(added(paths, _WIDTH - len(indent)))
    written = indent + written.replace("\n", newline + indent)
    for statement in block:
        if isinstance(statement, ast.ImportFrom):
            module = (statement.module or "").partition(".")[0]
            if statement.level or module.lower() > "safeloss":
                before = source.line(statement.lineno)[0]
                return Edit(before, before, written + newline)
    _, after = source.line(block[-1].end_lineno or 0)
    if source.text[:after].endswith(("\n", "\r")):
        return Edit(after, after, written + newline)
    return Edit(after, after, newline + written)


def _block(source: Positions, anchor: Import) -> list[ast.stmt]:
    """The import statements on the lines around one, without a gap."""
    body, place = anchor.body, anchor.body.index(anchor.statement)
    first = last = place

    def joined(one: ast.stmt, other: ast.stmt) -> bool:
        return (
            isinstance(one, (ast.Import, ast.ImportFrom))
            and isinstance(other, (ast.Import, ast.ImportFrom))
            and other.lineno - (one.end_lineno or 0) == 1
        )

    while first and joined(body[first - 1], body[first]):
        first -= 1
    while last + 1 < len(body) and joined(body[last], body[last + 1]):
        last += 1
    block = body[first : last + 1]
    # A statement that shares its line with what is no import ends the block.
    return [
        one
        for one in block
        if not source.text[slice(source.line(one.lineno)[0], source.span(one)[0])].strip()
    ]


def unused(names: Names, rewritten: Sequence[ast.AST], kept: frozenset[str]) -> list[Import]:
    """The imports of torch that only rewritten places have used. `kept` are used by other files."""
    roots = {_root(node) for node in rewritten}
    gone = []
    for name in sorted({root.id for root in roots} - kept):
        scopes = [scope for scope in _scopes(names) if name in scope.imports]
        bound = [one for scope in scopes for one in scope.imports[name]]
        still = any(
            read.id == name and read not in roots and names.scopes[read].find(name) in scopes
            for read in names.reads
        )
        if len(bound) == 1 and not still and not _is_in_strings(names, name):
            gone += bound
    return gone


def _root(node: ast.AST) -> ast.Name:
    while isinstance(node, ast.Attribute):
        node = node.value
    assert isinstance(node, ast.Name)
    return node


def _scopes(names: Names) -> set[Scope]:
    return {names.module, *names.scopes.values()}


def _is_in_strings(names: Names, name: str) -> bool:
    """Whether `__all__`, an annotation in quotes, or a doctest mentions a name."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    for node in names.strings:
        text = str(node.value)
        if word.search(text) is None:
            continue
        if isinstance(names.parents[node], ast.Expr):  # a docstring
            lines = (line.lstrip() for line in text.splitlines())
            text = "\n".join(line for line in lines if line.startswith((">>>", "...")))
        elif " " in text.strip() and "[" not in text and "|" not in text:
            continue  # a sentence
        if word.search(text):
            return True
    return False


def removals(source: Positions, gone: Sequence[Import]) -> list[Edit]:
    """What takes imports out of their statements, or whole statements out of their lines."""
    edits = []
    for statement in {one.statement: None for one in gone}:
        dropped = [one.alias for one in gone if one.statement is statement]
        start, end = source.span(statement)
        line = source.line(statement.lineno)[0]
        _, after = source.line(statement.end_lineno or 0)
        rest = source.text[end:after].strip()
        if "noqa" in source.text[start:after]:
            continue
        if len(dropped) < len(statement.names):
            places = [statement.names.index(alias) for alias in dropped]
            text = with_line_feeds(_without, source.text[start:end], places)
            edits += [Edit(start, end, text)] if text is not None else []
        elif not source.text[line:start].strip() and (not rest or rest.startswith("#")):
            edits.append(Edit(line, after, ""))
    return edits


def with_line_feeds(
    edit: Callable[[str, Sequence[T]], str | None], text: str, more: Sequence[T]
) -> str | None:
    """What an edit by LibCST makes of a text, whose own line ends are kept."""
    if "\r\n" not in text:
        return edit(text, more)
    edited = edit(text.replace("\r\n", "\n"), more)
    return None if edited is None else edited.replace("\n", "\r\n")


def _closing(own: Comma, last: Comma) -> Comma:
    """The comma of a name that becomes the last one: its comment stays, and the bracket's place."""
    if isinstance(own, cst.Comma) and isinstance(last, cst.Comma):
        before, after = own.whitespace_after, last.whitespace_after
        if isinstance(before, cst.ParenthesizedWhitespace) and isinstance(
            after, cst.ParenthesizedWhitespace
        ):
            space = before.with_changes(last_line=after.last_line, indent=after.indent)
            return own.with_changes(whitespace_after=space)
    return last


def _without(text: str, places: Sequence[int]) -> str | None:
    """An import statement without some of its names."""
    try:
        line = cst.parse_statement(text)
    except cst.ParserSyntaxError:
        return None
    module = cst.Module([])
    if not isinstance(line, cst.SimpleStatementLine):
        return None
    statement = cst.ensure_type(line.body[0], cst.Import | cst.ImportFrom)  # type: ignore[arg-type]  # no union
    if isinstance(statement.names, cst.ImportStar) or module.code_for_node(statement) != text:
        return None
    left = [alias for place, alias in enumerate(statement.names) if place not in places]
    left[-1] = left[-1].with_changes(comma=_closing(left[-1].comma, statement.names[-1].comma))
    return module.code_for_node(statement.with_changes(names=left))
