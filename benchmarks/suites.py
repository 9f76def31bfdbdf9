"""What the guard finds in the test suites of other projects, and what it would find in them.

    python -m benchmarks.suites kornia 0.9.0 FOLDER tests/losses tests/metrics --python PYTHON

runs the tests in FOLDER with PYTHON, which has the project installed, under
`guard(arithmetic=True)`, and puts the places of operators whose operands repeat each other into
`docs/suites.json`. Where their sizes differ, one is certainly no target of the other; the guard
is asked all the same what it would say of the operands if the sizes were equal, since then only
what they are tells them apart. `docs/diagnose.md` is made of the record (`make docs`). What is
`right` about a finding a person has to say, in the record.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "docs" / "suites.json"
_OUTPUT = "SAFELOSS_SUITE"  # the environment variable that says where the plugin writes
_SECONDS = "SAFELOSS_SUITE_SECONDS"  # ... and after which time it begins no further test

_places: dict[tuple[str, bool], dict[str, Any]] = {}
_seen = {"tests": 0, "calls": 0}
SLOW = (
    "not dynamo and not compile and not gradcheck and not onnx and not jit"  # and say nothing new
)
_began: list[float] = []  # when the first test did


def pytest_configure(config: Any) -> None:
    """As a plugin of pytest: watch what the guard is asked."""
    from safeloss import _guard
    from safeloss._guard import arithmetic
    from safeloss._guard.caller import caller

    judge = _guard._Watch._operator

    # As the guard sees it, a function of this name is nobody's caller.
    def __torch_function__(watch: Any, func: Any, args: Any, given: Any) -> Any:  # noqa: N807
        pair = arithmetic.repeated(func, args, given)
        by = None if pair is None else caller(directly=True)
        if pair is not None and by is not None:
            accused = arithmetic.is_accident(pair, watch.origins, by.frame)
            file = os.path.relpath(by.line.file)
            for folder in ("site-packages/", "dist-packages/"):
                file = file.rpartition(folder)[2]
            key = f"{file}:{by.line.number} {pair.operator}", pair.equal
            place = _places.setdefault(key, {"calls": 0, "accused": 0, "source": by.line.text})
            place["calls"] += 1
            place["accused"] += accused
            place["shapes"] = [list(tensor.shape) for tensor in pair.both]
        return judge(watch, func, args, given)

    _guard._Watch._operator = __torch_function__


def _guarded(item: Any) -> Iterator[None]:
    from safeloss import guard

    _seen["tests"] += 1
    _began.append(time.perf_counter())
    if _began[-1] - _began[0] > float(os.environ.get(_SECONDS, "inf")):
        item.session.shouldstop = "the time is over"
    with guard("log", arithmetic=True) as findings:
        try:
            yield
        finally:
            _seen["calls"] += findings.calls
            for finding in findings:
                if finding.loss not in _operators():
                    shapes = [list(shape) for shape in finding.shapes.values()]
                    key = f"{os.path.relpath(finding.file)}:{finding.line} {finding.loss}", True
                    _places[key] = {
                        "calls": finding.count,
                        "accused": finding.count,
                        "source": finding.source,
                        "shapes": shapes,
                    }
            _write()  # after each test, for a run may be ended


def _operators() -> set[str]:
    from safeloss._guard import arithmetic

    return {arithmetic.name(func) for func in arithmetic.OPERATORS}


def _write() -> None:
    if _OUTPUT in os.environ:
        places = [
            {"place": place, "equal": equal, **row} for (place, equal), row in _places.items()
        ]
        Path(os.environ[_OUTPUT]).write_text(json.dumps({**_seen, "places": places}))


if "pytest" in sys.modules:
    import pytest

    pytest_runtest_call = pytest.hookimpl(wrapper=True)(_guarded)


def load() -> dict[str, Any]:
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def measure(python: str, folder: Path, tests: list[str], seconds: float) -> dict[str, Any]:
    """What was seen while the tests ran."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "suite.json"
        environment = {**os.environ, _OUTPUT: str(output), "PYTHONPATH": str(ROOT)}
        environment[_SECONDS] = str(seconds)
        run = [python, "-m", "pytest", "-q", "-p", "benchmarks.suites", "-p", "no:cacheprovider"]
        run += ["-p", "no:xdist", "--no-header", "--tb=no", "-W", "ignore"]
        run += ["-o", "addopts=", "-k", SLOW, *tests]
        with contextlib.suppress(subprocess.TimeoutExpired):  # in a long test
            subprocess.run(run, cwd=folder, env=environment, check=False, timeout=seconds + 180)
        return json.loads(output.read_text())


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.suites", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=600, help="begin no test after them")
    given = parser.parse_args()
    record = load()
    before = {row["place"]: row for row in record.get(given.name, {}).get("places", [])}
    suite = measure(given.python, given.folder, given.tests, given.seconds)
    for row in suite["places"]:
        if row["equal"] and row["accused"]:
            row["right"] = before.get(row["place"], {}).get("right")
    suite["places"].sort(key=lambda row: (row["place"], row["equal"]))
    record[given.name] = {"version": given.version, "run": " ".join(given.tests), **suite}
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
