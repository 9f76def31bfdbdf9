"""Puts the safe losses in the place of PyTorch's while the test suite of another project runs.

    python tests/neighbours.py skorch 1.4.0 FOLDER skorch/tests --python PYTHON

runs the tests in FOLDER twice with PYTHON, which has the project installed: as they are, and with
every loss of `torch.nn` and `torch.nn.functional` replaced by one that computes both, PyTorch's and
ours, compares values and gradients bit for bit, and returns ours. It prints what ours refuses,
what it warns of, numbers that differ, and tests that pass only without it, and puts them into
`docs/neighbours.json`, of which `make docs` makes a table. What is `right` about a refusal, or
about numbers that differ, a person has to say, in the record. With `--sample 10` ten files of
tests are chosen at random, the same ones every time.
"""

import argparse
import collections
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "neighbours.json"
_OUTPUT = "SAFELOSS_NEIGHBOUR"  # the environment variable that says where the plugin writes
_SWAPS = "SAFELOSS_NEIGHBOUR_SWAPS"  # ... whether losses are replaced
_SECONDS = "SAFELOSS_NEIGHBOUR_SECONDS"  # ... and after which time it begins no further test
# What reads source code, or compiles it, sees the code of this file.
SLOW = "not dynamo and not compile and not onnx and not jit and not script and not cuda"

_began = 0.0
_counts: dict[str, int] = collections.Counter()
_found: dict[tuple[str, str], dict[str, Any]] = {}
_outcomes: dict[str, str] = {}
_inside = False  # one of our own calls: what a loss calls in its turn is PyTorch's own


# One call, by both ------------------------------------------------------------------------------


def _leaves(values: Any) -> Any:
    """The same arguments, in tensors that belong to nobody else's graph."""
    from torch import Tensor

    if isinstance(values, Tensor):
        return values.detach().clone().requires_grad_(values.requires_grad)
    if isinstance(values, (list, tuple)) and type(values) in (list, tuple):
        return type(values)(map(_leaves, values))
    if isinstance(values, dict):
        return {name: _leaves(value) for name, value in values.items()}
    return values


def _tensors(values: Any) -> list[Any]:
    from torch import Tensor

    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, (list, tuple)):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def _numbers(call: Callable[..., Any], args: Any, given: Any) -> list[Any]:
    """The value and the gradients of a call."""
    import torch

    args, given = _leaves(args), _leaves(given)
    values = _tensors(call(*args, **given))
    wanted = [x for x in _tensors([args, given]) if x.requires_grad]
    total = [value.sum() for value in values if value.requires_grad]
    grads: Any = torch.autograd.grad(sum(total), wanted, allow_unused=True) if total else []
    return [*(value.detach() for value in values), *grads]


def _same(one: Any, other: Any) -> bool:
    import torch

    if one is None or other is None:
        return one is other
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and bool(torch.equal(one.isnan(), other.isnan()))
        and bool(torch.equal(one.nan_to_num(), other.nan_to_num()))
    )


def _comparable(args: Any, given: Any) -> bool:
    """Whether the numbers can be read and the call can be repeated."""
    import torch
    from torch import Tensor, nn

    tensors = _tensors([args, given])
    return (
        torch._C._functorch.peek_interpreter_stack() is None
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and all(type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" for x in tensors)
    )


def _place() -> str:
    """The nearest line outside PyTorch and this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename == __file__ or f"{os.sep}torch{os.sep}" in frame.f_code.co_filename
    ):
        frame = frame.f_back
    file = os.path.relpath(frame.f_code.co_filename)
    return f"{file.rpartition('site-packages/')[2]}:{frame.f_lineno}"


def _record(kind: str, loss: str, said: str, args: Any, given: Any) -> None:
    shapes = [f"{str(x.dtype)[6:]} {list(x.shape)}" for x in _tensors([args, given])]
    row = {"kind": kind, "loss": loss, "said": said, "tensors": shapes, "calls": 0}
    _found.setdefault((kind, _place()), row)["calls"] += 1


def _both(
    loss: str, native: Callable[..., Any], safe: Callable[..., Any], args: Any, given: Any
) -> Any:
    """Ours, compared with PyTorch's; PyTorch's where ours refuses."""
    global _inside
    import torch

    from safeloss import SafeLossError, SuspiciousInputWarning

    if _inside:
        return native(*args, **given)
    _counts["calls"] += 1
    _inside = True
    try:
        if not _comparable(args, given):
            try:
                return safe(*args, **given)
            except SafeLossError as error:
                result = native(*args, **given)
                _record("refused", loss, str(error), args, given)
                return result
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
                warnings.simplefilter("ignore")
                expected = _numbers(native, args, given)
        except Exception:  # PyTorch refuses by itself, with its own words
            _counts["refused by PyTorch"] += 1
            return native(*args, **given)
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                with torch.inference_mode(False), torch.enable_grad():
                    found = _numbers(safe, args, given)
        except SafeLossError as error:
            _record("refused", loss, str(error), args, given)
            return native(*args, **given)
        for warning in warned:
            if issubclass(warning.category, SuspiciousInputWarning):
                _record("warned", loss, str(warning.message), args, given)
        _counts["compared"] += 1
        if len(found) != len(expected) or not all(map(_same, found, expected)):
            _record("other numbers", loss, "", args, given)
        return safe(*args, **given)
    finally:
        _inside = False


# The swap ---------------------------------------------------------------------------------------


def _swap_function(name: str) -> None:
    import torch.nn.functional as F

    from safeloss import functional

    native, safe = getattr(F, name), getattr(functional, name)

    @functools.wraps(native)
    def swapped(*args: Any, **given: Any) -> Any:
        return _both(name, native, safe, args, given)

    setattr(F, name, swapped)


def _swap_module(native: Any, safe: Any) -> None:
    from safeloss import convert

    forward = native.forward
    ours: Any = weakref.WeakKeyDictionary()  # what a module has learnt stays with it

    @functools.wraps(forward)
    def swapped(module: Any, *args: Any, **given: Any) -> Any:
        if type(module) is not native:
            return forward(module, *args, **given)
        if module not in ours:
            twin = object.__new__(native)
            vars(twin).update(vars(module))
            native.forward = forward  # `convert` leaves what somebody has replaced
            try:
                ours[module] = convert(twin)
            finally:
                native.forward = swapped
        twin = ours[module]
        state = {name: value for name, value in vars(module).items() if name != "_forward_hooks"}
        vars(twin).update(state)
        return _both(native.__name__, functools.partial(forward, module), twin.forward, args, given)

    native.forward = swapped


def pytest_configure(config: Any) -> None:
    """As a plugin of pytest: before the project is imported."""
    if not os.environ.get(_SWAPS):
        return
    import torch.nn.functional as F

    from safeloss import SAFE, functional

    for native, safe in SAFE.items():
        _swap_module(native, safe)
    for name in functional.__all__:
        if hasattr(F, name):
            _swap_function(name)


def pytest_collection_finish() -> None:
    """The time begins with the first test: to import a project may take minutes."""
    global _began
    _began = time.monotonic()


def pytest_runtest_logreport(report: Any) -> None:
    """The worst of setup, call and teardown."""
    if report.failed or (report.when == "call" and report.nodeid not in _outcomes):
        _outcomes[report.nodeid] = report.outcome


def pytest_runtest_teardown(item: Any) -> None:
    if time.monotonic() - _began > float(os.environ.get(_SECONDS, "inf")):
        item.session.shouldstop = "the time is over"


def pytest_sessionfinish() -> None:
    if _OUTPUT in os.environ:
        found = [{"place": place, **row} for (_, place), row in _found.items()]
        written = {"counts": _counts, "found": found, "outcomes": _outcomes}
        Path(os.environ[_OUTPUT]).write_text(json.dumps(written))


# The two runs -----------------------------------------------------------------------------------


def run(python: str, folder: Path, options: list[str], seconds: float, swaps: bool) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "found.json"
        (Path(scratch) / "neighbours.py").symlink_to(Path(__file__).resolve())
        environment = {**os.environ, _OUTPUT: str(output), _SECONDS: str(seconds)}
        environment |= {_SWAPS: "1" if swaps else "", "PYTHONPATH": f"{scratch}{os.pathsep}{ROOT}"}
        command = [python, "-m", "pytest", "-q", "-p", "neighbours", "-p", "no:cacheprovider"]
        command += ["-p", "no:safeloss_pytest", "--no-header", "--tb=no", "-W", "ignore"]
        command += ["-o", "addopts=", "-k", SLOW, *options]
        subprocess.run(command, cwd=folder, env=environment, check=False)
        return json.loads(output.read_text())


def sample(folder: Path, tests: list[str], count: int) -> tuple[list[str], int]:
    """Some files of a suite, chosen at random, and the number of all of them."""
    named = [folder / path for path in tests]
    found = {file for path in named for file in ([path] if path.is_file() else path.rglob("*.py"))}
    files = sorted(
        str(file.relative_to(folder))
        for file in found
        if file.name.startswith("test_") or file.name.endswith("_test.py")
    )
    return sorted(random.Random(0).sample(files, min(count, len(files)))), len(files)


def main() -> None:
    parser = argparse.ArgumentParser("tests/neighbours.py", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tests", nargs="+", help="folders, files, and further options of pytest")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seconds", type=float, default=600, help="begin no test after them")
    parser.add_argument("--sample", type=int, help="run so many files of the tests, at random")
    given, options = parser.parse_known_args()
    sampled = {}
    if given.sample:
        given.tests, files = sample(given.folder, given.tests, given.sample)
        sampled = {"sampled": [len(given.tests), files]}
    given.tests += options
    plain = run(given.python, given.folder, given.tests, given.seconds, swaps=False)
    swapped = run(given.python, given.folder, given.tests, given.seconds, swaps=True)
    outcomes = plain["outcomes"]
    failures = sorted(
        name
        for name, outcome in swapped["outcomes"].items()
        if outcome == "failed" and outcomes.get(name) == "passed"
    )
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    judged = {
        (row["kind"], row["place"]): row.get("right")
        for row in record.get(given.name, {}).get("found", [])
    }
    for row in swapped["found"]:
        if row["kind"] != "warned":
            row["right"] = judged.get((row["kind"], row["place"]))
        print(f"{row['kind']}: {row['place']}, {row['calls']} calls, {row['tensors']}")
        print(row["said"])
    print("fails only with the safe losses:", *failures or ["nothing"], sep="\n  ")
    record[given.name] = {
        "version": given.version,
        "run": " ".join(given.tests),
        **sampled,
        "tests": len(swapped["outcomes"]),
        **{name: swapped["counts"].get(name, 0) for name in ("calls", "compared")},
        "refused by PyTorch": swapped["counts"].get("refused by PyTorch", 0),
        "found": sorted(swapped["found"], key=lambda row: (row["kind"], row["place"])),
        "new failures": failures,
    }
    RECORD.write_text(json.dumps(dict(sorted(record.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
