"""`python -m safeloss explain`: what a code means, offline."""

import difflib
import json

from safeloss._lint.rules import RULES, Rule
from safeloss._messages import catalogue
from safeloss._messages.catalogue import Entry


def codes() -> list[str]:
    """All codes: those of messages, and those of the rules of `safeloss lint`."""
    return sorted([*catalogue.codes(), *RULES])


def entry(code: str, language: str) -> Entry:
    """The explanation of `code`."""
    return _of_rule(RULES[code]) if code in RULES else catalogue.entry(code, language)


def _of_rule(rule: Rule) -> Entry:
    page = (
        f"# {rule.code}: {rule.title}\n\n{rule.meaning}\n\n"
        f"## Example\n\n```python\n{rule.example}\n```\n\n## What to do\n\n{rule.fix}\n"
    )
    return Entry(rule.code, rule.title, rule.meaning, rule.example, rule.fix, page)


def run(code: str | None, language: str, as_json: bool) -> int:
    """Print the page of `code`, or else a line for each code."""
    entries = [entry(one, language) for one in ([code] if code else codes())]
    if as_json:
        fields = ("code", "title", "meaning", "program", "advice")
        printed = [{name: getattr(each, name) for name in fields} for each in entries]
        print(json.dumps(printed[0] if code else printed, indent=2, ensure_ascii=False))
    elif code:
        print(entries[0].page, end="")
    else:
        print("\n".join(f"{each.code}  {each.title}" for each in entries))
    return 0


def known_code(text: str) -> str:
    """A code that is explained, as it may be copied from a message: `SL101`, `sl101`, `[SL101]`."""
    code, known = text.strip("[]").upper(), codes()
    if code in known:
        return code
    near = sorted(difflib.get_close_matches(code, known))
    hint = f"did you mean {' or '.join(near)}?" if near else "`safeloss explain` lists all codes"
    raise ValueError(f"there is no code {text!r}; {hint}")
