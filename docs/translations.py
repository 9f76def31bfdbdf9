"""Which Chinese pages are older than their English ones.

`translations.json` has, for each Chinese page, a digest of the English text that it was made of.
`python docs/translations.py` lists the pages that are behind; with names of pages, it records that
these are up to date now.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

from safeloss import _explain

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).with_suffix(".json")


def pages() -> list[str]:
    """All pages in Chinese: of the docs, the README, and the codes that `explain` explains."""
    paths = sorted([*ROOT.glob("*.zh.md"), *(ROOT / "docs").rglob("*.zh.md")])
    return [*[path.relative_to(ROOT).as_posix() for path in paths], *_explain.codes()]


def _english(page: str) -> str:
    if page in _explain.codes():
        return _explain.entry(page, "en").page
    text = (ROOT / page.replace(".zh.md", ".md")).read_text(encoding="utf-8")
    # What is generated inside a page changes by itself.
    return re.sub(r"(<!-- (.+?) -->).*?(<!-- end of \2 -->)", r"\1\3", text, flags=re.DOTALL)


def digest(page: str) -> str:
    """Of the English text, but for its line breaks."""
    return hashlib.sha256(" ".join(_english(page).split()).encode()).hexdigest()[:12]


def record() -> dict[str, str]:
    """The digests as they were when each page was written."""
    found: dict[str, str] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def behind() -> list[str]:
    """The Chinese pages whose English text has changed since."""
    known = record()
    return [page for page in pages() if known.get(page) != digest(page)]


def accept(names: list[str]) -> None:
    """Record that these pages are up to date."""
    known = record() if RECORD.exists() else {}
    known |= {page: digest(page) for page in names}
    kept = {page: known[page] for page in pages() if page in known}
    RECORD.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:]:
        accept(sys.argv[1:])
    print("\n".join(behind()))
