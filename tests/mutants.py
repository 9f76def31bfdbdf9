"""Changes one operator, number or condition of the library, and looks whether a test notices.

    python tests/mutants.py record tests/test_errors.py ...
    python tests/mutants.py run safeloss/_contract/*.py --sample 200

The first command records which tests run which line. The second one runs them for each mutant, the
quickest first, in a fork of a process that has imported PyTorch and the tests. No file is edited.
"""

import argparse
import ast
import functools
import gc
import importlib
import itertools
import json
import os
import random
import resource
import time
import types
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

RECORD = Path("build/mutants")
TIMES, LINES, KILLER = RECORD / "times.json", RECORD / "coverage", RECORD / "killer"
OPTIONS = (
    "-q",
    "-o",
    "addopts=",
    "-p",
    "no:cacheprovider",
    "--capture=sys",
    "-m",
    "not slow and not nightly",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
PRELOADED = ("torch._dynamo", "torch.testing", "hypothesis", "beartype.door", "jaxtyping")
OTHERS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
}


def changes(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Parts of `node`, each with what may stand in its place."""
    match node:
        case ast.Compare(left, ops, right):
            for i, op in enumerate(ops):
                for other in OTHERS[type(op)]:
                    yield node, ast.Compare(left, [*ops[:i], other(), *ops[i + 1 :]], right)
        case ast.BoolOp(op, values):
            for i in range(len(values)):
                rest = values[:i] + values[i + 1 :]
                yield node, ast.BoolOp(op, rest) if rest[1:] else rest[0]
        case ast.BinOp(left, op, right):
            yield from ((node, left), (node, right))
            for other in OTHERS.get(type(op), ()):
                yield node, ast.BinOp(left, other(), right)
        case ast.UnaryOp(_, operand):
            yield node, operand
        case ast.Constant(bool(value)):
            yield node, ast.Constant(not value)
        case ast.Constant(int(value)):
            yield from ((node, ast.Constant(number)) for number in (value + 1, value - 1))
        case ast.Constant(float(value)):
            yield node, ast.Constant(value / 2 if value else 1.0)
            yield node, ast.Constant(value * 2 if value else -1.0)
        case ast.If(test) | ast.IfExp(test):
            yield from ((test, ast.Constant(constant)) for constant in (True, False))
        case ast.comprehension(ifs=tests):
            yield from ((test, ast.Constant(True)) for test in tests)
        case ast.Continue():
            yield node, ast.Break()
        case ast.Break():
            yield node, ast.Continue()
        case ast.AugAssign() | ast.Expr(ast.Call() | ast.Yield()):
            yield node, ast.Pass()
        case ast.Assign([ast.Name()], ast.Tuple(rows) as table) if rows[1:]:
            for i in range(len(rows)):
                yield table, ast.Tuple(rows[:i] + rows[i + 1 :], ast.Load())
        case ast.Dict(keys, values) if keys[1:]:
            for i in range(len(keys)):
                yield node, ast.Dict(keys[:i] + keys[i + 1 :], values[:i] + values[i + 1 :])


def running(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and what is in it, but for type hints and texts, which do not run or are only read."""
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
        return
    yield node
    if not isinstance(node, ast.JoinedStr):
        for field, value in ast.iter_fields(node):
            if field not in ("annotation", "returns"):
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        yield from running(child)


class Mutant(NamedTuple):
    path: Path
    module: ast.Module
    old: Any
    new: ast.AST

    def __str__(self) -> str:
        old, new = (" ".join(ast.unparse(node).split()) for node in (self.old, self.new))
        return f"{self.path}:{self.old.lineno}: {old} -> {new}"

    def code(self) -> types.CodeType:
        """The changed module; `module` is used up by it."""
        mutant = self

        class Change(ast.NodeTransformer):
            def visit(self, node: ast.AST) -> ast.AST:
                return mutant.new if node is mutant.old else self.generic_visit(node)

        changed = Change().visit(self.module)
        return compile(ast.fix_missing_locations(changed), self.path, "exec")

    def import_it(self) -> None:
        """The module is changed when it is imported."""
        read = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, name: str) -> types.CodeType | None:
            ours = Path(loader.path).resolve() == self.path.resolve()
            return self.code() if ours else read(loader, name)

        SourceFileLoader.get_code = get_code

    def swap_functions(self) -> None:
        """The functions of the module are changed, or all of it where nothing has imported it."""
        path = str(self.path.resolve())
        found = [each for each in gc.get_objects() if type(each) is types.FunctionType]
        found = [each for each in found if each.__code__.co_filename == path]
        if not found:
            self.import_it()
            return
        codes = {(code.co_name, code.co_firstlineno): code for code in _codes(self.code())}
        for function in found:
            code = function.__code__
            function.__code__ = codes[code.co_name, code.co_firstlineno]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def mutants(path: Path) -> list[Mutant]:
    module = ast.parse(path.read_text())
    pairs = [pair for node in running(module) for pair in changes(node)]
    return [Mutant(path, module, old, new) for old, new in pairs]


class Recorder:
    """Records which tests run which line, and how long each takes."""

    def __init__(self, source: str) -> None:
        self.lines = coverage.Coverage(LINES, source=[source], config_file=False, messages=False)
        self.times: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines.switch_context(item.nodeid)
        began = time.process_time()
        result = yield
        self.times[item.nodeid] = time.process_time() - began
        self.lines.switch_context("")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def _files(tests: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(test.split("::")[0] for test in tests))


class Fork:
    """Runs the tests of each mutant in a process of its own, and prints what becomes of it."""

    def __init__(self, seconds: float) -> None:
        self.times: dict[str, float] = json.loads(TIMES.read_text())
        self.lines = coverage.CoverageData(str(LINES))
        self.lines.read()
        self.seconds = seconds
        self.swapped: list[tuple[Mutant, list[str]]] = []
        self.chosen: list[str] | None = None  # in the process of a mutant: its tests

    @functools.cache  # noqa: B019  # one object, as long as the process lives
    def lines_of(self, path: Path) -> dict[int, list[str]]:
        return self.lines.contexts_by_lineno(str(path.resolve()))

    def tests(self, mutant: Mutant) -> tuple[list[str], bool]:
        """The tests that may notice, the most telling first; whether the line runs at import."""
        ran = self.lines_of(mutant.path)
        first = next(line for line in range(mutant.old.lineno, 0, -1) if line in ran)
        known = {
            test for line in range(first, mutant.old.end_lineno + 1) for test in ran.get(line, ())
        }
        direct = [test for test in self.times if test in known]
        if "" not in known:
            direct.sort(key=self.times.__getitem__)
        others = [test for test in self.times if "" in known and test not in known]
        total = itertools.accumulate(self.times[test] for test in direct + others)
        within = sum(spent <= self.seconds for spent in total)
        return (direct + others)[:within], "" in known

    def run(self, mutants: list[Mutant]) -> None:
        choices = [(mutant, *self.tests(mutant)) for mutant in mutants]
        self.swapped = [(mutant, tests) for mutant, tests, at_import in choices if not at_import]
        child = os.fork()
        if not child:
            tests = itertools.chain.from_iterable(tests for _, tests in self.swapped)
            pytest.main([*OPTIONS, *_files(tests)], [self])
            os._exit(0)
        os.waitpid(child, 0)
        for mutant, tests, at_import in choices:
            if at_import and self.is_mutant(mutant, tests):
                mutant.import_it()
                pytest.main([*OPTIONS, *_files(tests)], [self])
                os._exit(1)  # an error of import

    def is_mutant(self, mutant: Mutant, tests: list[str]) -> bool:
        """Whether this process is the new one; the old one returns when that has ended."""
        KILLER.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            limit = int(3 * self.seconds) + 60
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            self.chosen = tests
            return True
        began = time.monotonic()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        killer = KILLER.read_text() if KILLER.exists() else f"exit {status}"
        verdict = f"killed by {killer}" if status else f"SURVIVED {len(tests)} tests"
        print(f"{mutant}\n    {verdict} in {time.monotonic() - began:.0f} s", flush=True)
        return False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        items = {item.nodeid: item for item in session.items}
        for mutant, tests in self.swapped if self.chosen is None else []:
            if self.is_mutant(mutant, tests):
                mutant.swap_functions()
                break
        if self.chosen is None:
            return True  # all is done
        session.items = [items[test] for test in self.chosen if test in items]
        return None  # pytest goes on and runs them

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.chosen is not None and report.failed:
            KILLER.write_text(report.nodeid)
            os._exit(1)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.chosen is not None:
            os._exit(exitstatus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record")
    record.add_argument("tests", nargs="+")
    run = commands.add_parser("run")
    run.add_argument("files", nargs="+", type=Path)
    run.add_argument("--sample", type=int)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--seconds", type=float, default=60, help="of tests for each mutant")
    given = parser.parse_args()
    RECORD.mkdir(parents=True, exist_ok=True)
    for name in PRELOADED:
        importlib.import_module(name)
    if given.command == "record":
        recorder = Recorder("safeloss")
        recorder.lines.start()
        pytest.main([*OPTIONS, *given.tests], [recorder])
        recorder.lines.stop()
        recorder.lines.save()
        passed = {test: t for test, t in recorder.times.items() if test not in recorder.failed}
        TIMES.write_text(json.dumps(passed, indent=1))
    else:
        found = [each for file in given.files for each in mutants(file)]
        chosen = random.Random(given.seed).sample(found, given.sample) if given.sample else found
        print(f"{len(chosen)} of {len(found)} mutants")
        Fork(given.seconds).run(chosen)


if __name__ == "__main__":
    main()
