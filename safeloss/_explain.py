"""`python -m safeloss explain`: what a code means, offline."""

import difflib
import json
import locale
import os
import sys
from io import TextIOWrapper

from safeloss._lint.rules import RULES, Rule
from safeloss._messages import catalogue
from safeloss._messages.catalogue import Entry


def codes() -> list[str]:
    """All codes: those of messages, and those of the rules of `safeloss lint`."""
    return sorted([*catalogue.codes(), *RULES])


def entry(code: str, language: str) -> Entry:
    """The explanation of `code`. What `safeloss lint` says of its rules is their English page."""
    english_rule = language == "en" and code in RULES
    return _of_rule(RULES[code]) if english_rule else catalogue.entry(code, language)


def language() -> str:
    """The language of the user's locale, or English where there are no pages in it.

    >>> language() in catalogue.languages()
    True
    """
    variables = ("LC_ALL", "LC_MESSAGES", "LANG")  # Windows has none of them, but a locale
    said = next(filter(None, map(os.environ.get, variables)), "") or locale.getlocale()[0] or ""
    near = {"chinese": "zh"}.get(said.lower().partition(" ")[0], said.lower()[:2])
    return near if near in catalogue.languages() else "en"


def _of_rule(rule: Rule) -> Entry:
    page = (
        f"# {rule.code}: {rule.title}\n\n{rule.meaning}\n\n"
        f"## Example\n\n```python\n{rule.example}\n```\n\n## What to do\n\n{rule.fix}\n"
    )
    return Entry(rule.code, rule.title, rule.meaning, rule.example, rule.fix, page)


def run(code: str | None, language: str, as_json: bool) -> int:
    """Print the page of `code`, or else a line for each code."""
    entries = [entry(one, language) for one in ([code] if code else codes())]
    _make_printable("".join(each.page for each in entries))
    if as_json:
        fields = ("code", "title", "meaning", "program", "advice")
        printed = [{name: getattr(each, name) for name in fields} for each in entries]
        print(json.dumps(printed[0] if code else printed, indent=2, ensure_ascii=False))
    elif code:
        print(entries[0].page, end="")
    else:
        print("\n".join(f"{each.code}  {each.title}" for each in entries))
    return 0


def _make_printable(text: str) -> None:
    """Have the output in UTF-8 if its own encoding lacks characters of `text`."""
    if isinstance(sys.stdout, TextIOWrapper):
        try:
            text.encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            sys.stdout.reconfigure(encoding="utf-8")


def known_code(text: str) -> str:
    """A code that is explained, as it may be copied from a message: `SL101`, `sl101`, `[SL101]`."""
    code, known = text.strip("[]").upper(), codes()
    if code in known:
        return code
    near = sorted(difflib.get_close_matches(code, known))
    hint = f"did you mean {' or '.join(near)}?" if near else "`safeloss explain` lists all codes"
    raise ValueError(f"there is no code {text!r}; {hint}")
