"""Puts the code of `tests/trainers`, which is tested there, into the pages of `docs/trainers`."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests" / "trainers"


def parts(name: str) -> dict[str, str]:
    """What stands in a tested file between `# part: name` and `# end`."""
    _, *rest = (TESTS / f"test_{name}.py").read_text().split("# part: ")
    named = (text.partition("# end\n")[0].partition("\n") for text in rest)
    return {title: code.strip("\n") for title, _, code in named}


def example(name: str, part: str) -> str:
    return f"```python\n{parts(name)[part]}\n```"


def pages() -> dict[str, Mapping[str, Callable[[], str]]]:
    """A page has the name of its file of tests, and all of its parts."""
    return {
        f"trainers/{page.name}": {
            part: functools.partial(example, page.stem, part) for part in parts(page.stem)
        }
        for page in sorted((DOCS / "trainers").glob("*.md"))
    }
