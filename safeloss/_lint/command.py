"""`python -m safeloss lint PATH...`: findings by line, and the exit code."""

import argparse
import json
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from safeloss._lint.rules import RULES
from safeloss._source import files, table, work
from safeloss._source.files import Skipped

SUMMARY = "find mistakes with losses in source code, without running it"
_LISTED = "\n".join(
    f"    {rule.code}  {rule.title}{'' if rule.default else ' (off)'}" for rule in RULES.values()
)
LESSON = f"""\
Looks for mistakes with losses that the source alone shows, such as a softmax before cross entropy.
Nothing is imported or run, torch neither. What is not certain is not reported. The code cells of a
notebook (.ipynb) are read as one program; a finding names its cell.

    safeloss lint src
    safeloss lint src --select SL201,SL203
    safeloss lint src --format github        annotations in a workflow of GitHub

    loss = criterion(x.squeeze(), y)  # safeloss: ignore[SL203]      not this line

Rules:

{_LISTED}

Those that are off are wrong too often to be on: name them with --select. The precision of each,
as measured on public code, is in docs/migrate.md.
"""
EXITS = {
    0: "nothing was found",
    1: "something was found",
    2: "a path cannot be used, or the command line is wrong",
}
# What a file with a finding mentions; most files do not, and are not parsed.
_LOSSES = re.compile(
    rb"\b(?:%s)\b|[sS]oftm" % "|".join([*table.FUNCTIONS, *table.CLASSES]).encode() + rb"|safeloss"
)
_ERRORS = re.compile(rb"\*\* ?2|\b(?:square|pow|abs)\(")
_CELL = ":cell "  # between the path of a notebook and the number of a cell
_IGNORE = re.compile(r"#\s*safeloss:\s*ignore(?:\[([^\]]*)\])?")


class Finding(NamedTuple):
    """A row of the report; columns count from 1."""

    path: str
    line: int
    column: int
    code: str
    message: str


class Answer(NamedTuple):
    """What was found in a file."""

    path: Path
    findings: tuple[Finding, ...] = ()
    skipped: str = ""


def codes(text: str) -> frozenset[str]:
    """The rules of `--select`: their codes, with commas between, or `all`."""
    if text.lower() == "all":
        return frozenset(RULES)
    chosen = frozenset(code.strip().upper() for code in text.split(","))
    unknown = sorted(chosen - set(RULES))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)!r} is no rule; choose from {', '.join(RULES)}, or all"
        )
    return chosen


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `lint`."""
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="a folder, or a .py or .ipynb file")
    add("--select", type=codes, metavar="CODES",
        help="only these rules, such as SL201,SL203; or all (default: those that are on)",
        default=frozenset(code for code, rule in RULES.items() if rule.default))  # fmt: skip
    add("--format", choices=FORMATS, default="text", help="of the findings (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print what is found below the paths; the exit code."""
    missing = [path for path in options.paths if not path.exists()]
    for path in missing:
        print(f"{path}: no such file or folder", file=sys.stderr)
    if missing:
        return 2
    found = files.find(options.paths, (".py", ".ipynb"))
    skipped = list(found.skipped)
    findings: list[Finding] = []
    ask = partial(answer_of, select=options.select, named=frozenset(options.paths))
    for answer in work.over(found.files, ask, _lost):
        findings += answer.findings
        if answer.skipped:
            skipped.append((answer.path, answer.skipped))
    FORMATS[options.format](findings)
    for path, reason in sorted(skipped):
        print(f"{files.relative(path)}: skipped: {reason}", file=sys.stderr)
    if options.format == "text":
        count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
        print(f"{count} in {len(found.files)} files.", file=sys.stderr)
    return 1 if findings else 0


def answer_of(path: Path, select: frozenset[str], named: frozenset[Path]) -> Answer:
    """What is found in one file."""
    try:
        data = files.read(path)
        if not _is_worth_it(data):
            return Answer(path)
        if path not in named and files.is_generated(data):
            return Answer(path, skipped="a program has written it, as its first comment says")
        text = files.decode(data).text
        check = lint_notebook if path.suffix == ".ipynb" else lint
        return Answer(path, tuple(check(text, files.relative(path), select)))
    except Skipped as why:
        return Answer(path, skipped=str(why))
    except (RecursionError, MemoryError):
        return Answer(path, skipped="nests too deeply")


def _is_worth_it(data: bytes) -> bool:
    if b"torch" not in data and b"safeloss" not in data:
        return False
    return bool(
        _LOSSES.search(data) or (_ERRORS.search(data) and re.search(rb"target|label", data))
    )


def lint(text: str, path: str, select: frozenset[str]) -> list[Finding]:
    """The findings in a source.

    Raises:
        Skipped: if it does not parse.
    """
    from safeloss._lint.checks import CHECKS
    from safeloss._lint.flow import Flow
    from safeloss._source.names import Names

    flow = Flow(Names(files.parse(text)))
    lines = list(files.lines(text))
    found = {
        Finding(path, one.node.lineno, one.node.col_offset + 1, one.code, one.message)
        for check in CHECKS
        for one in check(flow)
        if one.code in select
    }
    return sorted(one for one in found if not _is_ignored(lines[one.line - 1], one.code))


def lint_notebook(text: str, path: str, select: frozenset[str]) -> list[Finding]:
    """The findings in a notebook, whose code cells are one program.

    The path of each names the cell, of the code cells the first being 1, in which its line counts.

    Raises:
        Skipped: if it is no notebook.
    """
    from safeloss._source.notebooks import cells_of

    cells = [f"{cell.masked}\n" for cell in cells_of(text)]
    ends = list(accumulate(len(list(files.lines(cell))) for cell in cells))
    found = []
    for one in lint("".join(cells), path, select):
        cell = bisect_left(ends, one.line)
        line = one.line - (ends[cell - 1] if cell else 0)
        found.append(one._replace(path=f"{path}{_CELL}{cell + 1}", line=line))
    return found


def _is_ignored(line: str, code: str) -> bool:
    match = _IGNORE.search(line)
    if match is None:
        return False
    return match[1] is None or code in re.findall(r"\w+", match[1].upper())


def _lost(path: Path) -> Answer:
    return Answer(path, skipped="reading it ended the process")


def _text(findings: Sequence[Finding]) -> None:
    for one in findings:
        print(f"{one.path}:{one.line}:{one.column}: {one.code} {one.message}")


def _json(findings: Sequence[Finding]) -> None:
    rows = ",\n".join(json.dumps(one._asdict()) for one in findings)
    print(f"[\n{rows}\n]" if rows else "[]")


def _github(findings: Sequence[Finding]) -> None:
    def escaped(text: str, also: str = "") -> str:
        return "".join(
            f"%{ord(letter):02X}" if letter in f"%\r\n{also}" else letter for letter in text
        )

    for one in findings:
        path, cell, number = one.path.partition(_CELL)
        line = f"line={one.line},col={one.column},"  # GitHub would count it in the JSON
        where = f"file={escaped(path, ':,')},{'' if cell else line}title={one.code}"
        inside = f"cell {number}, line {one.line}: " if cell else ""
        print(f"::warning {where}::{escaped(inside + one.message)}")


FORMATS: dict[str, Callable[[Sequence[Finding]], None]] = {
    "text": _text,
    "json": _json,
    "github": _github,
}
