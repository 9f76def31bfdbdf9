"""Every call is asked of PyTorch and of safeloss, and the oracle says what became of it."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from safeloss._hazards.cases import Case, cases
from safeloss._hazards.grid import REQUIRED
from safeloss._hazards.oracle import (
    Answer,
    Meaning,
    Tensors,
    answer,
    arranged,
    meaning,
    sample_by_sample,
)
from safeloss._progress import Progress
from safeloss.errors import SafeLossError

# What may become of a call, the worst first.
OUTCOMES = {
    "silent": "a wrong number, and nothing is said",
    "warns": "a wrong number, with a warning",
    "repeats": "one target serves several predictions, and nothing is said: it may be meant",
    "unseen": "the number of another call, which has the same shapes and is as declared",
    "raises": "an error",
    "refuses": "an error that says what is wrong and what would work",
    "normalises": "the right number, after a view or a cast",
    "right": "the right number",
}


class Side(NamedTuple):
    """What one side made of a call."""

    outcome: str
    gave: str  # the number, or the name of the error


class Row(NamedTuple):
    """What became of a call."""

    loss: str
    replaces: str
    section: str
    call: str
    about: str  # an argument, where there is a choice
    shapes: dict[str, list[int]]
    right: str | None  # the number; None where none is right
    native: Side
    safe: Side


class Truth(NamedTuple):
    """What a call means, and the answer that is right."""

    meant: Meaning
    answer: Answer


def native_of(safe: type[nn.Module]) -> type[nn.Module]:
    """The class of `torch.nn` that a loss stands in for."""
    return next(kind for kind in safe.__mro__ if kind.__module__.startswith("torch."))


def outcomes(safe: type[nn.Module], progress: Progress | None = None) -> list[Row]:
    """What becomes of every call of one loss, each a step of `progress`."""
    native, calls = native_of(safe), cases(safe)
    usual = frozenset[str]()  # PyTorch's warnings at a plain call too, which mean nothing here
    if calls:
        usual = answer(asked(native, calls[0]), calls[0].drawn()).warnings
    rows: list[Row] = []
    for case in calls:
        rows.append(_row(case, native, usual))
        if progress is not None:
            progress.step()
    return _unseen(rows)


def _row(case: Case, native: type[nn.Module], usual: frozenset[str]) -> Row:
    """What becomes of one call."""
    tensors = case.drawn()
    given = dict(tensors)
    if case.slip is not None:
        numbers = tensors[case.about]
        # Predictions come out of a model, and so have a graph.
        model = numbers.clone().requires_grad_() if case.slip.first else numbers
        given[case.about] = case.slip.made(model)
    truth = _truth(case, native, tensors)
    answers = [answer(asked(kind, case), given) for kind in (native, case.safe)]
    natively, safely = [_outcome(gave, truth, case, usual) for gave in answers]
    if safely == "right" and truth is not None and not _as_declared(case, truth.meant):
        safely = "normalises"
    return Row(
        case.safe.__name__,
        native.__name__,
        case.section,
        case.call,
        case.about,
        {name: list(tensor.shape) for name, tensor in given.items()},
        str(truth.answer) if truth is not None and truth.meant.own else None,
        Side(natively, str(answers[0])),
        Side(safely, str(answers[1])),
    )


def asked(kind: type[nn.Module], case: Case) -> Callable[[Tensors], Tensor]:
    """The call of a fresh module of this kind, whose own parameters are always the same."""
    needed = [p.name for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    options = {name: REQUIRED[name] for name in needed if name in REQUIRED}
    if case.section == "Weights":
        options["reduction"] = "sum"  # a weighted mean is no mean of means
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        loss = kind(**options).double()

    def call(tensors: Tensors) -> Tensor:
        for entry in case.inputs:
            if entry.weight:
                setattr(loss, entry.name, tensors[entry.name])
        value = loss(*[tensors[entry.name] for entry in case.inputs if not entry.weight])
        return getattr(value, "loss", value)

    return call


def _truth(case: Case, native: type[nn.Module], tensors: Tensors) -> Truth | None:
    """What PyTorch makes of the samples one by one, each of them as it is declared."""
    if not case.sizes["B"] or (case.slip is not None and not case.slip.known):
        return None
    meant = meaning(case.inputs, case.layouts, case.sizes, case.layer)
    if meant is None:
        return None
    call = asked(native, case)

    def reduced(tensors: Tensors) -> Tensor:
        losses = sample_by_sample(call, tensors, meant.layouts, case.sizes)
        return losses.sum() if case.section == "Weights" else losses.mean()

    declared = {
        name: arranged(tensor, case.layouts[name], meant.layouts[name], case.sizes)
        for name, tensor in tensors.items()
    }
    return Truth(meant, answer(reduced, declared))


def _as_declared(case: Case, meant: Meaning) -> bool:
    return case.slip is None and all(
        case.layouts[entry.name] == meant.layouts[entry.name] or entry.patterns[0].broadcast
        for entry in case.inputs
    )


def _outcome(gave: Answer, truth: Truth | None, case: Case, usual: frozenset[str]) -> str:
    """The name of what one side did."""
    if gave.error is not None:
        return "refuses" if isinstance(gave.error, SafeLossError) else "raises"
    agrees = truth is not None and truth.answer.agrees(_as_meant(gave, truth.meant, case))
    if agrees and truth is not None and truth.meant.own:
        return "right"
    if gave.warnings - usual:
        return "warns"
    return "repeats" if agrees else "silent"


def _as_meant(gave: Answer, meant: Meaning, case: Case) -> Answer:
    """An answer with its gradient in the layout that is declared."""
    if gave.gradient is None:
        return gave
    first = case.inputs[0].name
    axes, declared = case.layouts[first], meant.layouts[first]
    return gave._replace(gradient=arranged(gave.gradient, axes, declared, case.sizes))


def _unseen(rows: list[Row]) -> list[Row]:
    """The rows, those marked whose shapes are those of a call that is as declared.

    Of two calls with equal shapes nothing that looks at shapes can tell which one is meant.
    """
    declared = [(row.section, row.shapes) for row in rows if row.safe.outcome == "right"]
    return [
        row._replace(
            native=row.native._replace(outcome="unseen"), safe=row.safe._replace(outcome="unseen")
        )
        if row.safe.outcome == "silent"
        and row.section != "Numbers"
        and (row.section, row.shapes) in declared
        else row
        for row in rows
    ]
