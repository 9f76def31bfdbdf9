"""What users see of the types: in editors, in `help`, in notebooks and by `inspect`."""

import ast
import inspect
import pydoc
import re
import runpy
import typing
from pathlib import Path
from typing import Any

import pytest
from losses import LOSSES, WITH_FUNCTIONS, Loss

import safeloss
from safeloss import functional, layouts
from safeloss._contract.options import AT_CALL, OURS, documented
from safeloss._contract.patterns import parse
from safeloss._runtime.module import AtCall

over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
over_functions = pytest.mark.parametrize("loss", WITH_FUNCTIONS, ids=str)


# Type checkers, which `make lint` runs: what they read is what happens.


def test_what_type_checkers_read_runs() -> None:
    runpy.run_path(str(Path(__file__).parent / "typing" / "calls.py"))["main"]()


def declared_call(safe: type) -> ast.arguments:
    """The parameters that a class declares for type checkers."""
    tree = ast.parse(inspect.getsource(safe))
    [call] = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__call__"
    ]
    return call.args


@over_losses
def test_a_call_is_declared_with_the_parameters_of_forward(loss: Loss) -> None:
    declared, parameters = declared_call(loss.safe), inspect.signature(loss.safe.forward).parameters
    inputs = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert [argument.arg for argument in declared.args] == inputs
    assert set(AtCall.__annotations__) == parameters.keys() - set(inputs)
    assert bool(declared.kwarg) != bool(loss.safe.forward.signature.unweighted)


# Signatures and hints.


def check_hints(face: Any) -> None:
    """Those of `typing` are those of `inspect`, and jaxtyping's."""
    signature = inspect.signature(face)
    assert "Annotated" not in str(signature)
    hints = {p.name: p.annotation for p in signature.parameters.values() if p.name != "self"}
    hints["return"] = signature.return_annotation
    assert typing.get_type_hints(face, include_extras=True) == hints


@over_losses
def test_hints_are_those_of_jaxtyping(loss: Loss) -> None:
    check_hints(loss.safe.forward)
    for hint in typing.get_type_hints(loss.safe.forward).values():
        assert parse(hint)


@over_functions
def test_hints_are_the_layouts_that_are_checked(loss: Loss) -> None:
    check_hints(loss.kernel)
    hints = typing.get_type_hints(loss.kernel)
    for entry in loss.kernel.signature.reader.inputs:
        layouts_of = dict.fromkeys(pattern.hint for pattern in entry.patterns)
        assert [pattern.hint for pattern in parse(hints[entry.name])] == [*layouts_of]


def test_a_signature_reads_well() -> None:
    signature = str(inspect.signature(functional.mse_loss))
    assert signature.startswith("(input: jaxtyping.Shaped[Tensor, '*shape'], target: ")
    assert "weight: jaxtyping.Float[Tensor, '*shape'] | None = None" in signature


@over_losses
def test_the_signature_of_a_module_is_how_it_is_called(loss: Loss) -> None:
    module = loss.safe(**loss.options)
    assert inspect.signature(module) == inspect.signature(module.forward)
    assert "check_values" in inspect.signature(loss.safe).parameters  # a class is constructed


# Documentation.


def explained(face: Any) -> list[str]:
    """The arguments that a docstring explains, before it says what is raised."""
    doc = inspect.getdoc(face) or ""
    section = doc[doc.index("Options that PyTorch does not have:") : doc.index("Raises:")]
    return re.findall(r"(?m)^    (\w+):\n        \w", section)


@over_losses
def test_arguments_are_explained_by_the_class(loss: Loss) -> None:
    theirs = inspect.signature(loss.native).parameters
    options = [name for name in inspect.signature(loss.safe).parameters if name in OURS]
    at_call = () if loss.safe.forward.signature.unweighted else AT_CALL
    expected = {*options, *at_call} - theirs.keys()
    assert {"check_values", "empty"} <= expected == set(explained(loss.safe))


@over_functions
def test_arguments_are_explained_by_the_function(loss: Loss) -> None:
    ours = inspect.signature(loss.kernel).parameters.keys()
    assert set(explained(loss.kernel)) == ours & {*OURS, *AT_CALL}


def test_help_is_a_page_that_names_everything() -> None:
    page = pydoc.render_doc(safeloss, renderer=pydoc.plaintext)
    assert len(page.splitlines()) < 350
    missing = [name for name in safeloss.__all__ if name not in str(safeloss.__doc__)]
    assert missing == ["__version__"]
    assert {*safeloss.__all__, "losses"} <= set(dir(safeloss))  # what completion lists


def test_without_docstrings_there_is_nothing_to_add_to() -> None:
    """Under `python -OO`."""
    assert documented(None, ["empty"]) is None


def test_layouts_are_all_that_is_listed() -> None:
    names = dir(layouts)
    assert [name for name in names if not parse(getattr(layouts, name))] == ["OneSample"]
    assert {"Scores", "ClassIndices", "BinaryLogits"} <= set(names)
