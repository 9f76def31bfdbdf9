"""What a run on a GPU found: plain data that goes to a JSON file and back."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda.device import Device
from benchmarks.record import Row, machine, now, read_rows, versions, write

FILES = "benchmarks-cuda*.json"  # in `docs/`, one for each card


@dataclass
class CudaRecord:
    """A run on one card."""

    rehearsal: bool  # on a CPU: then nothing in it is a measurement
    card: dict[str, Any]
    date: str
    machine: dict[str, Any]
    versions: dict[str, Any]
    seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)  # steps for which no time was left
    failed: list[str] = field(default_factory=list)  # steps, and what was raised
    rows: list[Row] = field(default_factory=list)
    kernels: list[dict[str, Any]] = field(default_factory=list)
    synchronisations: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        lists = ("rows", "kernels", "synchronisations", "memory")
        write(asdict(self), path, lists)


def load(path: Path) -> CudaRecord:
    found = json.loads(path.read_text())
    return CudaRecord(**{**found, "rows": read_rows(found["rows"])})


def begun(device: Device) -> CudaRecord:
    """A record of this card, without rows."""
    card = device.gpu.get_device_properties(0)
    return CudaRecord(
        rehearsal=device.rehearsal,
        card={
            "name": card.name,
            "memory GiB": round(card.total_memory / 2**30, 1),
            "multiprocessors": card.multi_processor_count,
            "compute capability": f"{card.major}.{card.minor}",
        },
        date=now(),
        machine=machine(),
        versions={**versions(), "cuda": torch.version.cuda},
    )
