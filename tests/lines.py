"""Places that call a loss: what is learnt or said at one of them is kept for the whole process."""

import itertools
from collections.abc import Callable
from typing import Any

_numbers = itertools.count()


def new_line() -> Callable[..., Any]:
    """`call(f, *args)`, whose call of `f` stands on a line that has never run before."""
    scope: dict[str, Any] = {}
    source = "def call(f, *args, **kwargs):\n    return f(*args, **kwargs)\n"
    exec(compile(source, f"line_{next(_numbers)}.py", "exec"), scope)
    return scope["call"]
