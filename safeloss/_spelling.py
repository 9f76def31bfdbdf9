"""The question after a misspelt name."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """ " Did you mean 'audit'?", or nothing where no choice is near."""
    by_lower, lower = {choice.lower(): choice for choice in choices}, name.lower()
    near = difflib.get_close_matches(lower, by_lower, n=1) or [
        choice for choice in by_lower if lower.startswith(choice)
    ]
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""
