"""The alternative that most people would write: the native function under jaxtyping's decorator."""

import inspect
from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import jaxtyped
from torch import Tensor

from benchmarks.cases import Case


def naive(case: Case) -> Callable[..., Tensor]:
    """The native function with the safe one's own hints, checked by jaxtyping and beartype."""
    assert case.safe_function is not None
    parameters = inspect.signature(case.safe_function).parameters
    hints = {name: p.annotation for name, p in parameters.items() if p.default is p.empty}
    names = ", ".join(hints)
    # Written out, since a decorator of `*args` would have no names to check.
    scope: dict[str, Any] = {"native": case.native_function, "__name__": __name__}
    exec(f"def naive({names}):\n    return native({names})", scope)
    written = scope["naive"]
    written.__annotations__ = hints  # no return hint: with one, everything is checked twice
    checked: Callable[..., Tensor] = jaxtyped(typechecker=beartype)(written)
    return checked
