"""Writes what safe losses did in the tests of others: the record of `tests/neighbours.py`."""

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("neighbours.json")


def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


def is_false(row: dict[str, Any]) -> bool:
    """PyTorch computed what was meant, and ours refused it or computed something else."""
    return row["kind"] != "warned" and row["right"] is False


def table() -> str:
    """A row for each suite, and a line for each place at which something was found."""
    heads = ("calls", "compared", "refused", "of them wrongly", "other numbers", "warned")
    lines = [
        f"| suite | tests | {' | '.join(heads)} | new failures |",
        f"|---|{'--:|' * (len(heads) + 2)}",
    ]
    said = []
    for name, suite in record().items():
        found = {
            kind: [row for row in suite["found"] if row["kind"] == kind]
            for kind in ("refused", "other numbers", "warned")
        }
        wrong = [row for row in found["refused"] if is_false(row)]
        listed = (found["refused"], wrong, found["other numbers"], found["warned"])
        calls = [sum(row["calls"] for row in rows) for rows in listed]
        counts = [suite["tests"], suite["calls"], suite["compared"], *calls]
        cells = " | ".join(f"{count:,}" for count in [*counts, len(suite["new failures"])])
        run, files = suite.get("sampled", (0, 0))
        part = f", {run} of {files} files" if files else ""
        lines.append(f"| {name} {suite['version']}{part} | {cells} |")
        said += [_line(name, row) for row in suite["found"]]
        said += [f"- {name}: `{test}` fails" for test in suite["new failures"]]
    return "\n".join([*lines, "", "What was found:", "", *(said or ["- nothing"])])


def _line(name: str, row: dict[str, Any]) -> str:
    judged = "" if row["kind"] == "warned" else f" ({'rightly' if row['right'] else 'wrongly'})"
    tensors = ", ".join(f"`{tensor}`" for tensor in row["tensors"])
    message = row["said"].partition("\n")[0]
    quoted = f": {message}" if message else ""
    times = f"{row['calls']:,} call{'s' if row['calls'] > 1 else ''}"
    what = f"{times} of `{row['loss']}` on {tensors}, {row['kind']}{judged}{quoted}"
    return f"- {name}, {row['place']}, {what}"
