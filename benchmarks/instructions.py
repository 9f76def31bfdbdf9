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
# The most that a module may add to native's call, where CI counts.
BUDGET = {"BCEWithLogits": 0, "CrossEntropy": 0, "MultiLabelBCE/BCE": 0}
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
    every = [case.name for case in CASES]
    parser.add_argument("--losses", nargs="+", choices=every, default=every, metavar="NAME")
    parser.add_argument("--functions", action="store_true", help="the functions, not the modules")
    parser.add_argument("--gate", action="store_true", help="those with a budget; fail beyond it")
    given = parser.parse_args()
    losses = list(BUDGET) if given.gate else given.losses
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed; without it nothing can be counted.")
    # torch starts whatever `python` comes first, which need not be this one.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    root = str(Path(__file__).resolve().parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONHASHSEED"] = "0"  # collisions in dicts would otherwise differ by run
    cases = [case for case in CASES if case.name in losses]
    if given.functions:
        cases = [case for case in cases if case.native_function is not None]
    calls = (NATIVE_FUNCTION, SAFE_FUNCTION) if given.functions else (NATIVE, SAFE)
    started, beyond = time.monotonic(), []
    print(f"{'loss':<28}{'native':>12}{'safe':>12}{'added':>12}{'ratio':>8}", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(count, [case for case in cases for _ in calls], calls * len(cases))
        for case, native, safe in zip(cases, counts, counts):
            numbers = f"{native:>12,}{safe:>12,}{safe - native:>+12,}{safe / native:>8.3f}"
            print(f"{case.name:<28}{numbers}", flush=True)
            if given.gate and safe - native > BUDGET[case.name]:
                beyond.append(f"{case.name} adds {safe - native:,}, not {BUDGET[case.name]:,}.")
    print(f"instructions per call, {CALLS} calls each, {time.monotonic() - started:.0f} s")
    if beyond:
        raise SystemExit("Beyond the budget: " + " ".join(beyond))


if __name__ == "__main__":
    main()
