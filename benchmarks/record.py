"""What a run found, and where: plain data that goes to a JSON file and back."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

import safeloss
from benchmarks.others import LIBRARIES
from benchmarks.timing import HAS_THREAD_CLOCK, NATIVE, Times


class Spread(NamedTuple):
    """A median between its quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(*[round(value, 4) for value in quartiles])


@dataclass
class Row:
    """One way of calling a loss, against the native one in the same rounds."""

    section: str
    loss: str
    arm: str
    elements: int
    shapes: list[Any]
    backward: bool
    threads: int
    native_us: Spread | None = None
    us: Spread | None = None
    ratio: Spread | None = None  # of the paired rounds, not of the medians
    overhead_us: Spread | None = None  # the same for the difference
    least_us: float = 0.0  # the difference of the fastest rounds
    rounds: int = 0
    calls: int = 0  # in each round
    error: str = ""


@dataclass
class Record:
    """A whole run."""

    date: str
    quick: bool
    machine: dict[str, Any]
    versions: dict[str, str]
    others: dict[str, bool]  # libraries, and whether they are installed
    rows: list[Row] = field(default_factory=list)
    instructions: dict[str, Any] = field(default_factory=dict)  # per call: PyTorch, safe
    imports: dict[str, Spread] = field(default_factory=dict)  # milliseconds, by statement
    memory: dict[str, Any] = field(default_factory=dict)  # MiB by shapes that never repeat
    masked: dict[str, list[float]] = field(default_factory=dict)  # MiB at the peak, by loss

    def save(self, path: Path) -> None:
        write(asdict(self), path, lists=("rows",))


def load(path: Path) -> Record:
    found = json.loads(path.read_text())
    rows = read_rows(found.pop("rows"))
    imports = {name: Spread(*times) for name, times in found.pop("imports", {}).items()}
    return Record(**found, rows=rows, imports=imports)


def write(kept: dict[str, Any], path: Path, lists: Sequence[str]) -> None:
    """`kept` as JSON, a line for each entry of `lists`; a run that is killed leaves no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rest = {name: value for name, value in kept.items() if name not in lists}
    text = json.dumps(rest, indent=1).removesuffix("\n}")
    for name in lists:
        entries = ",\n".join([json.dumps(entry) for entry in kept[name]])
        text += f',\n "{name}": [\n{entries}\n ]'
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(f"{text}\n}}\n")
    unfinished.replace(path)


def read_rows(found: list[dict[str, Any]]) -> list[Row]:
    spreads = ("native_us", "us", "ratio", "overhead_us")
    return [
        Row(**{**row, **{name: row[name] and Spread(*row[name]) for name in spreads}})
        for row in found
    ]


def filled(blank: Row, times: Times) -> list[Row]:
    """`blank` for every arm but the native one, with what was measured."""
    native = times.by_arm[NATIVE]
    return [
        replace(
            blank,
            arm=arm,
            native_us=spread(native),
            us=spread(measured),
            ratio=spread([ours / its for ours, its in zip(measured, native)]),
            overhead_us=spread([ours - its for ours, its in zip(measured, native)]),
            least_us=min(measured) - min(native),
            rounds=len(native),
            calls=times.calls,
        )
        for arm, measured in times.by_arm.items()
        if arm != NATIVE
    ]


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def begun(quick: bool) -> Record:
    """A record of this machine, without rows."""
    return Record(
        date=now(), quick=quick, machine=machine(), versions=versions(LIBRARIES), others={}
    )


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "clock of one thread": "thread time" if HAS_THREAD_CLOCK else "wall time",
    }


def versions(others: Sequence[str] = ()) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in ("jaxtyping", "beartype")},
        "safeloss": safeloss.__version__,
        **{name: _version(name) for name in others},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
