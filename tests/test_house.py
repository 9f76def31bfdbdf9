"""The layout of the library: imports point one way, and one place decides."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import safeloss

PACKAGE = Path(safeloss.__file__).parent
# What a folder may import of the others, from the bottom up.
ALLOWED = {
    "_contract": {"_contract", "_torch", "errors"},
    "_messages": {"_messages", "_contract", "_torch", "errors"},
    "_runtime": {"_runtime", "_messages", "_contract", "_trace", "_torch", "errors"},
    "functional": {"functional", "layouts", "_runtime", "_contract", "_torch", "_lazy"},
    "_source": {"_source"},  # and so not torch, which a command that reads source code does without
    "_lint": {"_lint", "_source"},
    "_migrate": {"_migrate", "_source"},
    "losses": {"losses", "functional", "_runtime", "_contract", "_lazy"},
}


def imported(file: Path) -> set[str]:
    """The rooms of the library that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("safeloss"):
            parts = str(node.module).split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder: str) -> None:
    for file in sorted((PACKAGE / folder).glob("*.py")):
        assert imported(file) <= ALLOWED[folder], file.name


def callers(name: str) -> set[str]:
    """The files that call a method of this name on a signature or its reader."""
    return {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func).endswith(name)
    }


def test_one_place_reads_a_call() -> None:
    assert callers("reader.read") == {"_contract/contract.py"}


def test_options_are_validated_in_one_place() -> None:
    uses = [f for f in PACKAGE.rglob("*.py") if "option_error_text(" in f.read_text()]
    names = {str(file.relative_to(PACKAGE)) for file in uses}
    # The definition, the decision, and the constructor, which is where users look for it.
    assert names == {"_contract/options.py", "_contract/contract.py", "_runtime/checked.py"}


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or not torch.__version__.startswith("2.13"),
    reason="the page says what was counted there",
)
def test_the_walk_is_that_of_the_page() -> None:
    walk = [sys.executable, "-m", "benchmarks.walk"]
    run = subprocess.run(walk, cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    page = (PACKAGE / "_runtime" / "README.md").read_text()
    for row in run.stdout.splitlines()[2:]:
        assert row in page
