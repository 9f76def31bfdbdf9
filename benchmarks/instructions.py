"""Instructions of one safe call less those of a native one: `python -m benchmarks.instructions`.

Unlike times, counts do not depend on what else the machine does. They need valgrind, and a minute
or two: one Python imports torch under it, and counts call after call.
"""

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CASES, Case, prepared

CALLS = 100
# The most that a module may add to PyTorch's call, where CI counts.
BUDGET = {"BCEWithLogits": 0, "CrossEntropy": 0, "MultiLabelBCE/BCE": 0}
UNDER_VALGRIND = "SAFELOSS_UNDER_VALGRIND"


def pair(case: Case, functions: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """PyTorch's call and the safe one."""
    if functions:
        assert case.native_function is not None
        assert case.safe_function is not None
        return case.native_function, case.safe_function
    return case.native(), case.safe(check_values="never")


def counted(cases: list[Case], functions: bool) -> None:
    """Call after call under valgrind, with a dump after each."""
    bindings: Any = torch._C
    gc.disable()
    # Only now, since to import torch under it takes longer than all that is counted.
    begin = ["callgrind_control", "--instr=on", str(os.getpid())]
    subprocess.run(begin, check=True, stdout=subprocess.DEVNULL)
    for case in cases:
        inputs = prepared(case, 1, backward=False)
        for call in pair(case, functions):
            for counting in (False, True):  # once to warm up
                if counting:
                    bindings._valgrind_toggle()
                for _ in range(CALLS):
                    call(*inputs)
                if counting:
                    bindings._valgrind_toggle_and_dump_stats()


def available() -> bool:
    return shutil.which("valgrind") is not None


def counts(cases: list[Case], functions: bool = False) -> dict[str, tuple[int, int]]:
    """Instructions per call of each case, PyTorch's and safe."""
    names = [case.name for case in cases]
    arguments = ["--losses", *names, *(["--functions"] if functions else [])]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "-q"),
                *("--instr-atstart=no", "--collect-atstart=no"),
                f"--callgrind-out-file={out}",
                *(sys.executable, "-m", "benchmarks.instructions", *arguments),
            ],
            # Collisions in dicts would otherwise differ by run.
            env={**os.environ, UNDER_VALGRIND: "1", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            check=True,
        )
        dumps = sorted(out.parent.glob("counts.*"), key=lambda path: int(path.suffix[1:]))
        found = [re.search(r"^(?:summary|totals): (\d+)", d.read_text(), re.M) for d in dumps]
        each = [round(int(total[1]) / CALLS) for total in found if total is not None]
        return dict(zip(names, zip(each[::2], each[1::2], strict=True), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.instructions", description=__doc__)
    every = [case.name for case in CASES]
    parser.add_argument("--losses", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--functions", action="store_true", help="the functions, not the modules")
    parser.add_argument("--gate", action="store_true", help="those with a budget; fail beyond it")
    given = parser.parse_args()
    losses = list(BUDGET) if given.gate else given.losses
    cases = [case for case in CASES if case.name in losses]
    if given.functions:
        cases = [case for case in cases if case.native_function is not None]
    if UNDER_VALGRIND in os.environ:
        counted(cases, given.functions)
        return
    if not available():
        raise SystemExit("valgrind is not installed; without it nothing can be counted.")
    started, beyond = time.monotonic(), []
    print(f"{'loss':<28}{'PyTorch':>12}{'safe':>12}{'added':>12}{'ratio':>8}", flush=True)
    for name, (native, safe) in counts(cases, given.functions).items():
        numbers = f"{native:>12,}{safe:>12,}{safe - native:>+12,}{safe / native:>8.3f}"
        print(f"{name:<28}{numbers}")
        if given.gate and safe - native > BUDGET[name]:
            beyond.append(f"{name} adds {safe - native:,}, not {BUDGET[name]:,}.")
    print(f"instructions per call, {CALLS} calls each, {time.monotonic() - started:.0f} s")
    if beyond:
        raise SystemExit("Beyond the budget: " + " ".join(beyond))


if __name__ == "__main__":
    main()
