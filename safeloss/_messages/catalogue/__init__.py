"""The explanation of each code: a page of Markdown, in a folder for each language.

All pages have the same order: a title, what the code means, a program that shows it, what to do.
"""

import importlib.resources
import re
from typing import NamedTuple

_FOLDERS = importlib.resources.files(__name__)
_PAGE = re.compile(
    r"# (?P<code>SL\d+): (?P<title>[^\n]+)\n\n(?P<meaning>.+?)\n\n"
    r"## [^\n]+\n\n```python\n(?P<program>.+?)```\n\n## [^\n]+\n\n(?P<advice>.+)\n",
    re.DOTALL,
)


class Entry(NamedTuple):
    """The explanation of one code."""

    code: str
    title: str
    meaning: str
    program: str  # raises or warns with this code
    advice: str
    page: str  # all of that, in Markdown


def languages() -> list[str]:
    """The languages that there are pages in."""
    return sorted(
        folder.name
        for folder in _FOLDERS.iterdir()
        if folder.is_dir() and not folder.name.startswith("_")
    )


def codes() -> list[str]:
    """All codes that are explained."""
    names = [page.name for page in (_FOLDERS / "en").iterdir()]
    return sorted(name.removesuffix(".md") for name in names if name.endswith(".md"))


def entry(code: str, language: str = "en") -> Entry:
    """The explanation of `code`."""
    page = (_FOLDERS / language / f"{code}.md").read_text(encoding="utf-8")
    parts = _PAGE.fullmatch(page)
    if parts is None:
        raise ValueError(f"the page {code} in {language!r} has another order than the others")
    return Entry(**parts.groupdict(), page=page)
