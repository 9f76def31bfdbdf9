"""The question after a misspelt name."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """ " Did you mean 'audit'?", or nothing where no choice is near."""
    choices, lower = list(choices), name.lower()
    by_lower = {choice.lower(): choice for choice in choices}
    near = (
        difflib.get_close_matches(name, choices, n=1)
        or [by_lower[each] for each in difflib.get_close_matches(lower, by_lower, n=1)]
        or [choice for choice in choices if lower.startswith(choice.lower())]
    )
    return f" Did you mean {near[0]!r}?" if near else ""
