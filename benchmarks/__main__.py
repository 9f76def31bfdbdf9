"""`python -m benchmarks`."""

import argparse
from pathlib import Path

from benchmarks.cases import named
from benchmarks.plan import FULL, QUICK
from benchmarks.record import load
from benchmarks.run import run
from benchmarks.screen import progress, show


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Safe losses and native.")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    parser.add_argument("--losses", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep what was found")
    parser.add_argument("--load", type=Path, metavar="FILE.json", help="show a run that was kept")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write benchmarks.md and plots")
    given = parser.parse_args()
    if given.load:
        record = load(given.load)
    else:
        with progress() as told:
            plan = QUICK if given.quick else FULL
            record = run(plan, named(given.losses), given.quick, told)
    if given.output:
        record.save(given.output)
    if given.report:
        from benchmarks.report import write  # needs matplotlib, which nothing else here does

        write(record, given.report)
    show(record)


if __name__ == "__main__":
    main()
