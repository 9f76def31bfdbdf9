"""What ends the process that it runs in; a module of its own, so that this process starts fast."""

import os
from pathlib import Path


def ask(path: Path) -> str:
    """The name of a file, but for one that ends the process that reads it."""
    if path.name == "50":
        os._exit(1)
    return path.name


def lost(path: Path) -> str:
    return f"lost {path.name}"
