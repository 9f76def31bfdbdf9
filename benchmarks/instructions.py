"""Instructions of one safe call less those of a native one: `python -m benchmarks.instructions`.

Unlike times, counts do not depend on what else the machine does. They need valgrind, and minutes:
each of them is a Python of its own that imports torch under it.
"""

import argparse
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch.utils.benchmark import Timer

from benchmarks.cases import CASES, Case

CALLS = 100
LOSSES = ("BCEWithLogits", "CrossEntropy", "MultiLabelBCE/BCE")
SETUP = """\
from benchmarks.cases import CASES, prepared
case = next(case for case in CASES if case.name == {name!r})
inputs = prepared(case, 1, backward=False)
call = {call}
call(*inputs)
"""
NATIVE, SAFE = "case.native()", 'case.safe(check_values="never")'
NATIVE_FUNCTION, SAFE_FUNCTION = "case.native_function", "case.safe_function"


def count(case: Case, call: str) -> int:
    """Instructions of one `call`, the loop around it included."""
    timer = Timer("call(*inputs)", setup=SETUP.format(name=case.name, call=call))
    stats = timer.collect_callgrind(
        CALLS, repeats=None, collect_baseline=False, retain_out_file=False
    )
    return round(int(stats.counts()) / CALLS)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), metavar="NAME")
    parser.add_argument("--functions", action="store_true", help="the functions, not the modules")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed; without it nothing can be counted.")
    # torch starts whatever `python` comes first, which need not be this one.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    root = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONHASHSEED"] = "0"  # collisions in dicts would otherwise differ by run
    cases = [case for case in CASES if case.name in given.losses]
    calls = (NATIVE_FUNCTION, SAFE_FUNCTION) if given.functions else (NATIVE, SAFE)
    started = time.monotonic()
    print(f"{'loss':<28}{'native':>12}{'safe':>12}{'added':>12}{'ratio':>8}", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(count, [case for case in cases for _ in calls], calls * len(cases))
        for case, native, safe in zip(cases, counts, counts):
            numbers = f"{native:>12,}{safe:>12,}{safe - native:>+12,}{safe / native:>8.3f}"
            print(f"{case.name:<28}{numbers}", flush=True)
    print(f"instructions per call, {CALLS} calls each, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
