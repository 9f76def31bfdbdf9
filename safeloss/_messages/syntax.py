"""Source code as a syntax tree, also where several threads are refused at once."""

import ast
import threading
from typing import Any

_PARSING = threading.RLock()
_MOST_TRIALS = 8


def parsed(source: str, mode: str = "eval") -> Any:
    """What `ast.parse` gives.

    Python 3.11 counts in one place, for all threads, how deep it is in a tree
    (python/cpython#106905). Where threads take turns meanwhile it raises a SystemError, so ours
    wait for each other, and what another one has disturbed is tried again.
    """
    with _PARSING:
        for _ in range(_MOST_TRIALS):
            try:
                return ast.parse(source, mode=mode)
            except SystemError:
                continue
        return ast.parse(source, mode=mode)
