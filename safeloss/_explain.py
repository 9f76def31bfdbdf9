"""`python -m safeloss explain`: what a code means, offline."""

import difflib
import json

from safeloss._messages import catalogue


def run(code: str | None, language: str, as_json: bool) -> int:
    """Print the page of `code`, or else a line for each code."""
    entries = [catalogue.entry(one, language) for one in ([code] if code else catalogue.codes())]
    if as_json:
        fields = ("code", "title", "meaning", "program", "advice")
        printed = [{name: getattr(entry, name) for name in fields} for entry in entries]
        print(json.dumps(printed[0] if code else printed, indent=2, ensure_ascii=False))
    elif code:
        print(entries[0].page, end="")
    else:
        print("\n".join(f"{entry.code}  {entry.title}" for entry in entries))
    return 0


def known_code(text: str) -> str:
    """A code that is explained, as it may be copied from a message: `SL101`, `sl101`, `[SL101]`."""
    code, known = text.strip("[]").upper(), catalogue.codes()
    if code in known:
        return code
    near = sorted(difflib.get_close_matches(code, known))
    hint = f"did you mean {' or '.join(near)}?" if near else "`safeloss explain` lists all codes"
    raise ValueError(f"there is no code {text!r}; {hint}")
