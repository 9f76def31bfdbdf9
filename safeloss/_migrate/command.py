"""`python -m safeloss migrate PATH...`: the diff, the files and the exit code."""

import argparse
import difflib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safeloss._migrate.sites import Site
from safeloss._source import files, table, work
from safeloss._source.files import Skipped

if TYPE_CHECKING:
    from safeloss._migrate.rewrite import Rewritten

SUMMARY = "put safe losses in the place of PyTorch's, in whole folders"
LESSON = """\
Shows the change as a diff on the standard output, which `git apply` takes, and what was left
alone, and why, on the standard error. Nothing is imported or run, and nothing is written without
--write.

    safeloss migrate src            show what would change
    safeloss migrate src --write    change it
    safeloss migrate src --check    for CI: exit with 1 if something would change

nn.X(...) becomes SafeX(...) and F.x(...) SF.x(...), with the imports that this needs; so do
references and base classes, and strings of YAML (`_target_`, `class_path`). Annotations and
isinstance() stay, since a safe loss is an instance of PyTorch's class. size_average and reduce
become reduction. Reads .py, .ipynb, .yaml and .yml; hidden folders, other people's (vendored)
and generated code are left out unless they are named.

It needs the packages of the extra: pip install "safeloss[migrate]"
"""
EXITS = {
    0: "all is well",
    1: "with --check: something would change",
    2: "a path or a file cannot be used, or the command line is wrong",
}
_SUFFIXES = (".py", ".ipynb", ".yaml", ".yml")
# What a file with a loss in it mentions; most files have none, and are not parsed.
_WORTH = re.compile(
    rb"\b(?:%s)\b|getattr\(" % "|".join([*table.FUNCTIONS, *table.CLASSES]).encode()
)
_TAKEN = re.compile(rb"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n]*)", re.MULTILINE)


class Answer(NamedTuple):
    """What became of a file."""

    path: Path
    before: bytes = b""
    after: bytes = b""
    sites: tuple[Site, ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    skipped: str = ""

    @property
    def changed(self) -> bool:
        return self.before != self.after


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `migrate`."""
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="a folder or a file")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the files")
    what.add_argument("--check", action="store_true", help="exit with 1 if something would change")


def run(options: argparse.Namespace) -> int:
    """Show or write what changes below the paths; the exit code."""
    paths, write, check = options.paths, options.write, options.check
    if importlib.util.find_spec("libcst") is None:
        print('migrate needs LibCST: pip install "safeloss[migrate]"', file=sys.stderr)
        return 2
    missing = [path for path in paths if not path.exists()]
    for path in missing:
        print(f"{path}: no such file or folder", file=sys.stderr)
    if missing:
        return 2
    total, failed = Total(), False
    skipped: list[tuple[Path, str]] = []
    for answer in answers(paths, skipped):
        total.add(answer)
        if write and answer.changed:
            try:
                files.replace(answer.path, answer.before, answer.after)
            except Skipped as why:
                failed = True
                skipped.append((answer.path, str(why)))
        elif answer.changed:
            sys.stdout.buffer.write(diff(answer))
            sys.stdout.flush()
        say(answer)
    for path, reason in sorted(skipped):
        print(f"{files.relative(path)}: skipped: {reason}", file=sys.stderr)
    print(total.text(written=write), file=sys.stderr)
    return 2 if failed else int(check and total.files > 0)


class Total:
    """The counts of the last line."""

    def __init__(self) -> None:
        self.files = self.rewritten = self.left = 0

    def add(self, answer: Answer) -> None:
        self.files += answer.changed
        self.left += sum(bool(site.left) for site in answer.sites)
        self.rewritten += sum(not site.left for site in answer.sites)

    def text(self, written: bool) -> str:
        done = "rewritten" if written else "to rewrite"
        return (
            f"{self.rewritten} places in {self.files} files {done}; {self.left} left as they are."
        )


def answers(paths: Iterable[Path], skipped: list[tuple[Path, str]]) -> Iterator[Answer]:
    """What becomes of every file below the paths; what is left out goes to `skipped`."""
    paths = list(paths)
    found = files.find(paths, _SUFFIXES)
    skipped += found.skipped
    named = frozenset(paths)
    worth, taken = [], Taken()
    for path in found.files:
        try:
            data = files.read(path)
        except Skipped as why:
            skipped.append((path, str(why)))
            continue
        if path.suffix not in _SUFFIXES:
            skipped.append((path, "neither Python, a notebook nor YAML"))
            continue
        taken.add(data)
        if b"torch" in data and _WORTH.search(data):
            worth.append(path)
    ask = partial(answer_of, taken=taken, named=named)
    for answer in work.over(worth, ask, _lost):
        if answer.skipped:
            skipped.append((answer.path, answer.skipped))
        else:
            yield answer


class Taken:
    """The names that files import from other files: those keep their imports."""

    def __init__(self) -> None:
        self.names: dict[str, set[str]] = {}  # by the last part of the module

    def add(self, data: bytes) -> None:
        for module, names in _TAKEN.findall(data):
            if not module.startswith((b"torch.", b"safeloss")) and module != b"torch":
                last = module.rpartition(b".")[2].decode("ascii", "replace")
                words = re.findall(r"[\w*]+", names.decode("ascii", "replace"))
                self.names.setdefault(last, set()).update(words)

    def of(self, path: Path) -> frozenset[str] | None:
        """The names that others take from a file; None stands for all that it has."""
        if path.name == "__init__.py":
            return None
        names = self.names.get(path.stem, set())
        return None if "*" in names else frozenset(names)


def answer_of(path: Path, taken: Taken, named: frozenset[Path]) -> Answer:
    """What becomes of one file."""
    try:
        before = files.read(path)
        if path not in named and files.is_generated(before):
            return Answer(path, skipped="a program has written it, as its first comment says")
        source = files.decode(before)
        done = _rewrite(path, source.text, taken)
        if done.text != source.text and path.suffix == ".py":
            files.parse(done.text)
        after = source.encode(done.text)
    except Skipped as why:
        return Answer(path, skipped=str(why))
    except (RecursionError, MemoryError):
        return Answer(path, skipped="nests too deeply")
    return Answer(path, before, after, tuple(done.sites), tuple(done.notes))


def _rewrite(path: Path, text: str, taken: Taken) -> "Rewritten":
    from safeloss._migrate import configs, notebooks, rewrite  # which need LibCST

    if path.suffix == ".ipynb":
        return notebooks.notebook(text)
    if path.suffix == ".py":
        return rewrite.rewrite(text, taken.of(path))
    return configs.rewrite(text)


def _lost(path: Path) -> Answer:
    return Answer(path, skipped="reading it ended the process")


def diff(answer: Answer) -> bytes:
    """A unified diff that `git apply` and `patch -p1` take."""
    name = files.relative(answer.path).lstrip("/").encode()
    parts = []
    for line in difflib.diff_bytes(
        difflib.unified_diff,
        _lines(answer.before),
        _lines(answer.after),
        b"a/" + name,
        b"b/" + name,
    ):
        parts.append(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n")
    return b"".join(parts)


def _lines(data: bytes) -> list[bytes]:
    """Lines as `patch` counts them: by line feeds alone."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def say(answer: Answer) -> None:
    """What was left alone, and what is worth knowing, by line."""
    name = files.relative(answer.path)
    rows = [(site.line, f"left: {_named(site)}{site.left}") for site in answer.sites if site.left]
    rows += [(line, f"note: {note}") for line, note in answer.notes]
    for line, text in sorted(rows):
        print(f"{name}:{line}: {text}", file=sys.stderr)


def _named(site: Site) -> str:
    return f"{site.name}: " if site.name else ""
