"""`python -m benchmarks`."""

import argparse
from pathlib import Path

from benchmarks.cases import CASES, named
from benchmarks.screen import progress, show


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="Safe losses and PyTorch's."
    )
    parser.add_argument("--only", choices=["cuda"], help="on a GPU, in eight minutes")
    parser.add_argument("--rehearse", action="store_true", help="with a CPU in the GPU's place")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds")
    parser.add_argument("--losses", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="keep what was found")
    parser.add_argument("--resume", type=Path, metavar="FILE.json", help="what a CUDA run lacks")
    parser.add_argument("--load", type=Path, metavar="FILE.json", help="show a run that was kept")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write the page and its plots")
    given = parser.parse_args()
    if given.rehearse and (given.only != "cuda" or given.load or given.report):
        parser.error("--rehearse goes with --only cuda, and no page is made of it")
    if given.resume and given.only != "cuda":
        parser.error("--resume goes with --only cuda")
    measured = _cuda if given.only == "cuda" else _cpu
    measured(given)


def _cpu(given: argparse.Namespace) -> None:
    from benchmarks.own import own_cases
    from benchmarks.plan import FULL, QUICK
    from benchmarks.record import load
    from benchmarks.run import run

    if given.load:
        record = load(given.load)
    else:
        cases, own = named(CASES, given.losses), named(own_cases(), given.losses)
        if not cases + own:
            raise SystemExit(f"No loss is named {given.losses}; see benchmarks/cases.py.")
        with progress() as told:
            record = run(QUICK if given.quick else FULL, cases, own, given.quick, told)
    if given.output:
        record.save(given.output)
    if given.report:
        from benchmarks.report import write  # needs matplotlib, which nothing else here does

        write(record, given.report)
    show(record)


def _cuda(given: argparse.Namespace) -> None:
    from benchmarks.cuda import page
    from benchmarks.cuda.device import chosen
    from benchmarks.cuda.plan import FULL, REHEARSED
    from benchmarks.cuda.record import load
    from benchmarks.cuda.run import run

    if given.load:
        record = load(given.load)
    elif given.report and not given.output:
        page.write(given.report)
        return
    else:
        plan, cases = REHEARSED if given.rehearse else FULL, named(CASES, given.losses)
        with progress() as told:
            begun = load(given.resume) if given.resume else None
            record = run(chosen(given.rehearse), plan, cases, given.output, told, begun)
    if given.report:
        page.write(given.report)
    print("\n\n".join(page.summary(record)))


if __name__ == "__main__":
    main()
