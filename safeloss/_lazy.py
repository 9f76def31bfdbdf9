"""Names that are imported when they are first asked for: a program pays for the losses it uses.

What a package has is said once, in its stub (`__init__.pyi`), to type checkers and to Python.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from typing import Any


def read(package: str) -> tuple[dict[str, str], list[str]]:
    """The modules that the stub imports names from, by name, and the names that it lists.

    Word by word: a syntax tree is so many objects that Python may collect those of torch meanwhile,
    which takes longer than all the rest.
    """
    stub = pkgutil.get_data(package, "__init__.pyi") or b""  # it need not be a file
    places, listed, module = {}, [], ""
    words = iter(stub.decode().translate(str.maketrans("(),[]=", "      ")).split())
    for word in words:
        if word == "from":
            module = next(words)
        elif word == "as":
            next(words)
        elif word.startswith('"'):
            listed.append(word.strip('"'))
        elif word not in ("import", "__all__"):
            places[word] = module
    return places, listed


def later(
    package: str, missing: Callable[[], Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` (also of `__all__`) and `__dir__` of a package that has a stub (PEP 562).

    `missing` gives the names that this torch has nothing for. It is asked late, since it imports
    torch, and what only reads source code does without.
    """
    module = sys.modules[package]
    places, listed = read(package)

    def get(name: str) -> Any:
        if name == "__all__":
            found: Any = [name for name in listed if name not in missing()]
        elif name not in places or name in missing():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        elif places[name] == package:
            return importlib.import_module(f"{package}.{name}")
        else:
            found = getattr(importlib.import_module(places[name]), name)
        setattr(module, name, found)
        return found

    def names() -> list[str]:
        listed = sorted({*vars(module), *places}.difference(missing()))
        # `help` asks `inspect` for the members, and prints each class with all that it inherits
        # from PyTorch, a thousand lines for every loss. The package's docstring lists them.
        if sys._getframe(1).f_globals.get("__name__") == "inspect":
            return [name for name in listed if name[0].islower()]
        return listed

    return get, names
