"""Writes what is generated in the pages beside it: `python docs/pages.py`."""

from collections.abc import Callable, Mapping
from pathlib import Path

import examples
import neighbour_suites
import reference
import suites
import why

from safeloss import _hazards

DOCS = Path(__file__).parent

# What stands between `<!-- name -->` and `<!-- end of name -->`, by page and name.
PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "diagnose.md": {"suites": suites.table},
    "hazards.md": {"hazards": lambda: _hazards.as_markdown(_hazards.rows())},
    "losses.md": {"losses": reference.losses},
    "weights.md": {"unreduced": reference.unreduced, "unweighted": reference.unweighted},
    "why.md": why.TABLES,
    "trainers.md": {"neighbours": neighbour_suites.table},
    **examples.pages(),
}


def between(page: str, name: str) -> tuple[str, str, str]:
    """The page before, in and after what is generated under `name`."""
    before, rest = page.split(f"<!-- {name} -->\n")
    generated, after = rest.split(f"<!-- end of {name} -->")
    return before, generated.rstrip("\n"), after


def main() -> None:
    for name, parts in PAGES.items():
        page = (DOCS / name).read_text()
        for part, generate in parts.items():
            before, _, after = between(page, part)
            page = f"{before}<!-- {part} -->\n{generate()}\n<!-- end of {part} -->{after}"
        (DOCS / name).write_text(page)


if __name__ == "__main__":
    main()
