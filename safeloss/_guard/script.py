"""`python -m safeloss guard SCRIPT.py`: the script as it is, and then the lines that broadcast.

Where a function of torch's crashes it, the traceback ends in what is known of that call.
"""

import contextlib
import functools
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safeloss._guard import guard
from safeloss._guard.crash import Witness
from safeloss._guard.findings import Findings
from safeloss._trace import trace
from safeloss.errors import SafeLossError

_NO_COMPILER = "TORCH_COMPILE_DISABLE"


def run(script: Path, arguments: Sequence[str], arithmetic: bool, allow: Sequence[str]) -> int:
    """Run `script` as Python would, and print what was found: the exit code says if anything was.

    What the script itself raises, or exits with, comes first. If that is what a function of torch's
    refused, a note says why.
    """
    findings = Findings()
    try:
        with (
            _as_main(script, arguments),
            trace(),
            Witness() as witness,
            guard("log", arithmetic, allow) as findings,
        ):
            try:
                runpy.run_path(str(script), run_name="__main__")
            except Exception as error:  # it gets a note, and is raised again as it is
                _add_note(error, witness.explain(error))
                raise
    except SystemExit as leaving:
        if leaving.code:
            raise
    finally:
        for finding in findings:
            print(f"\n{finding}")
        print(f"\nNative loss calls seen: {findings.calls}. Findings: {len(findings)}.")
    return 1 if findings else 0


def _add_note(error: Exception, explained: SafeLossError | None) -> None:
    """Have `error` end in the explanation; before Python 3.11 this stands above the traceback."""
    if explained is not None:
        text = f"\nWhat safeloss says of this call:\n{explained}"
        add: Any = getattr(error, "add_note", functools.partial(print, file=sys.stderr))
        add(text)


@contextlib.contextmanager
def _as_main(script: Path, arguments: Sequence[str]) -> Iterator[None]:
    """What a script finds when Python runs it: its own arguments, and its folder to import from;
    and no compiler, whose code would not be seen."""
    argv, path, compiler = sys.argv, sys.path, os.environ.get(_NO_COMPILER)
    os.environ[_NO_COMPILER] = "1"
    sys.argv, sys.path = [str(script), *arguments], [str(script.resolve().parent), *path[1:]]
    try:
        yield
    finally:
        sys.argv, sys.path = argv, path
        os.environ.pop(_NO_COMPILER)
        if compiler is not None:
            os.environ[_NO_COMPILER] = compiler
