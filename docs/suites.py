"""Writes what the guard found in the tests of other projects: the record of `benchmarks.suites`."""

import json
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("suites.json")

HOW = """\
The same on the tests of projects that nobody here wrote, under `guard(arithmetic=True)`, recorded
by `python -m benchmarks.suites`. A *place* is an operator on one line whose operands repeat each
other. Where their sizes differ too much for one to be the target of the other, all meet all on
purpose, and the guard is asked what it would say if the sizes were equal, since then only what the
operands are tells it: each "yes" is a false accusation that waits for a coincidence.
"""


def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text())


def table() -> str:
    """A row for each suite, and the places that were accused."""
    head = "native loss calls", "places of equal sizes", "found", "right", "of other sizes", "yes"
    lines = [HOW, f"| suite | tests | {' | '.join(head)} |", f"|---|{'--:|' * (len(head) + 1)}"]
    accused = []
    for name, suite in record().items():
        equal = [row for row in suite["places"] if row["equal"]]
        other = [row for row in suite["places"] if not row["equal"]]
        found = [row for row in equal if row["accused"]]
        would = [row for row in other if row["accused"]]
        right = [row for row in found if row["right"]]
        counts = [suite["tests"], suite["calls"], *map(len, (equal, found, right, other, would))]
        cells = " | ".join(f"{count:,}" for count in counts)
        lines.append(f"| {name} {suite['version']}, `{suite['run']}` | {cells} |")
        for row in (*found, *would):
            verdict = "would be" if not row["equal"] else "right" if row["right"] else "wrong"
            shapes = " and ".join(f"`{shape}`" for shape in row["shapes"])
            accused.append(f"- {name}, `{row['source']}` ({row['place']}), {shapes}: {verdict}")
    return "\n".join([*lines, "", "What was found, or would be:", "", *(accused or ["- nothing"])])
