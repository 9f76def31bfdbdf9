"""Names that are imported when they are first asked for: a program pays for the losses it uses.

What a package has is said once, in its stub (`__init__.pyi`), to type checkers and to Python.
"""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import Any


def later(
    package: str, missing: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package that has a stub (PEP 562).

    `missing` are names that this torch has nothing for.
    """
    module = sys.modules[package]
    text = pkgutil.get_data(package, "__init__.pyi")  # which need not be in a file
    stub = ast.parse(text or b"")
    places, public = {}, []
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            places.update({alias.name: str(node.module) for alias in node.names})
        elif isinstance(node, ast.Assign):
            public = [name for name in ast.literal_eval(node.value) if name not in missing]

    def get(name: str) -> Any:
        if name not in places or name in missing:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if places[name] == package:
            return importlib.import_module(f"{package}.{name}")
        found = getattr(importlib.import_module(places[name]), name)
        setattr(module, name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(module), *places}.difference(missing))

    return get, names, public
