"""One Python source: its sites, and the text with the safe losses."""

import ast
import re
from collections.abc import Sequence
from typing import NamedTuple

from safeloss._migrate import arguments, imports, sites
from safeloss._migrate.imports import Edit
from safeloss._migrate.sites import Site, Use
from safeloss._source import table
from safeloss._source.files import Positions, Skipped, parse
from safeloss._source.names import Import, Names

# What `safeloss.functional` is imported as: the first of these that the file does not use.
_FUNCTIONAL = ("SF", "safe_F", "safeloss_functional")
_IGNORE = re.compile(r"#\s*safeloss:\s*ignore(?!\[)")  # with codes it is meant for `lint`
MULTI_LABEL = "MultiLabelBCE computes the same mean on [batch, classes], in one fused operation"


class Rewritten(NamedTuple):
    """A text after the rewrite, what was seen, and what is worth saying besides."""

    text: str
    sites: list[Site]
    notes: list[tuple[int, str]]  # the line, and what is said of it


def rewrite(text: str, kept: frozenset[str] | None = frozenset()) -> Rewritten:
    """The text with safe losses. `kept` are names that other files import; None stands for all.

    Raises:
        Skipped: if the text does not parse.
    """
    return _Rewrite(text, kept).result()


class _Rewrite:
    def __init__(self, text: str, kept: frozenset[str] | None) -> None:
        self.source = Positions(text)
        self.names = Names(parse(text))
        self.kept = kept
        self.sites: list[Site] = []
        self.notes: list[tuple[int, str]] = []
        self.words = set(re.findall(r"\w+", text))
        self.functional = ""  # the name that `safeloss.functional` is bound to
        # By the block that torch is imported in: the import, and what is needed of safeloss there.
        self.needed: dict[int, tuple[Import, set[tuple[str, str]]]] = {}

    def result(self) -> Rewritten:
        text = self.source.text
        edits: list[Edit] = []
        done: list[Use] = []
        for use in sites.uses(self.names):
            if _IGNORE.search(text[slice(*self.source.line(use.site.line))]):
                use = use._replace(site=use.site._replace(left="its comment says so"))
            edit = None if use.site.left else self._edit(use)
            if edit is None:
                self._say(use)
                continue
            edits.append(edit)
            done.append(use)
            self.sites.append(use.site)
            if use.site.name in ("MultiLabelSoftMarginLoss", "multilabel_soft_margin_loss"):
                self.notes.append((use.site.line, MULTI_LABEL))
        self.sites += sites.unknown(self.names)
        if done:
            edits = self._modern(done, edits)
            edits += self._insertions()
            if self.kept is not None:
                gone = imports.unused(self.names, [use.node for use in done], self.kept)
                edits += imports.removals(self.source, gone)
            text = imports.apply(text, edits)
        return Rewritten(text, sorted(self.sites), sorted(self.notes))

    def _say(self, use: Use) -> None:
        left = use.site.left or f"the name of {table.replacement(use.site.name)} is taken"
        self.sites.append(use.site._replace(left=left))

    def _edit(self, use: Use) -> Edit | None:
        """The expression with the name of the safe loss; None if that name is taken."""
        path = table.replacement(use.site.name)
        name = use.site.name
        if name in table.CLASSES:
            found = self._bind(use, path, [f"Safe{name}"])
        else:
            wanted = (self.functional,) if self.functional else _FUNCTIONAL
            found = self._bind(use, "safeloss.functional", wanted)
            self.functional = found or ""
            found = found and f"{found}.{name}"
        return Edit(*self.source.span(use.node), found) if found else None

    def _bind(self, use: Use, path: str, wanted: Sequence[str]) -> str | None:
        """A name that stands for `path` where the loss is used, imported if it is not yet."""
        for name, bound in self.names.module.imports.items():
            if {one.path for one in bound} == {path} and name not in self.names.module.others:
                return name
        mine = {name for _, needed in self.needed.values() for one, name in needed if one == path}
        for name in wanted:
            if name in mine or name not in self.words:
                anchor = use.imports[0]
                _, needed = self.needed.setdefault(id(anchor.body), (anchor, set()))
                needed.add((path, name))
                return name
        return None

    def _insertions(self) -> list[Edit]:
        everywhere = self.needed.get(id(self.names.tree.body), (None, set()))[1]
        edits = []
        for body, (anchor, needed) in self.needed.items():
            missing = needed if body == id(self.names.tree.body) else needed - everywhere
            if missing:
                edits.append(imports.insertion(self.source, anchor, missing))
        return edits

    def _modern(self, done: list[Use], edits: list[Edit]) -> list[Edit]:
        """The edits, with those of calls that have legacy arguments made one with them."""
        calls = []
        for use in done:
            call = self.names.parents[use.node]
            if isinstance(call, ast.Call) and call.func is use.node:
                parameters = (table.FUNCTIONS | table.CLASSES)[use.site.name]
                given = arguments.legacy(call, parameters)
                if given and arguments.is_certain(call, given):
                    calls.append((*self.source.span(call), parameters))
                elif given:
                    self.notes.append(
                        (call.lineno, "size_average or reduce is known at run time only, and stays")
                    )
        for start, end, parameters in sorted(calls, key=lambda call: call[1] - call[0]):
            inside = [edit for edit in edits if start <= edit.start and edit.end <= end]
            moved = [Edit(one.start - start, one.end - start, one.text) for one in inside]
            text = imports.with_line_feeds(
                arguments.modern, imports.apply(self.source.text[start:end], moved), parameters
            )
            if text is not None:
                edits = [edit for edit in edits if edit not in inside]
                edits.append(Edit(start, end, text))
        return edits


__all__ = ["Rewritten", "Skipped", "rewrite"]
