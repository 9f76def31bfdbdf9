"""What the first import adds to those of torch, jaxtyping and beartype, in fresh interpreters."""

import compileall
import subprocess
import sys
from pathlib import Path

import safeloss
from benchmarks.record import Spread, spread

STATEMENTS = (
    "import safeloss",
    "from safeloss import SafeBCEWithLogitsLoss",
    "from safeloss import *",
)
TIMES = 15
# A full collection of torch's objects, which takes as long as all of this, falls into whatever is
# imported next: it is no one's, and so it is left out.
PROGRAM = """\
import gc, time
import beartype, jaxtyping, torch
gc.disable()
started = time.process_time()
{}
print(1e3 * (time.process_time() - started))
"""


def milliseconds() -> dict[str, Spread]:
    """By statement, the statements in turn."""
    compileall.compile_dir(Path(safeloss.__file__).parent, quiet=1)  # as an installation does
    found: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(TIMES):
        for statement in STATEMENTS:
            program = PROGRAM.format(statement)
            run = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            )
            found[statement].append(float(run.stdout))
    return {statement: spread(times) for statement, times in found.items()}
