"""The calls that one loss may get: the rows of the grid that its signature gives a meaning to."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from safeloss._contract.model import Input
from safeloss._contract.patterns import Pattern
from safeloss._hazards.grid import (
    BY_NAME,
    GRIDS,
    PER_CLASS,
    PROBABILITIES,
    SIZES,
    SPREAD,
    Axes,
    Pair,
)
from safeloss._hazards.numbers import NUMBERS, SLIPS, Draw, Slip
from safeloss._hazards.oracle import understood
from safeloss._runtime.signature import Signature


class Case(NamedTuple):
    """A call of one loss."""

    safe: Any  # the class
    inputs: tuple[Input, ...]  # all that are given: those of `forward`, then a weight
    layouts: Mapping[str, Axes]
    about: str  # an argument, where there is a choice
    call: str  # "[B, 1] with [B]"
    section: str
    sizes: Mapping[str, int] = SIZES
    slip: Slip | None = None
    floating: bool = False  # the target holds shares, whatever is declared

    @property
    def layer(self) -> Pattern | None:
        """The layout of the weights that the loss has as a layer."""
        inputs = self.safe.forward.signature.reader.inputs
        return next((e.patterns[0] for e in inputs if e.patterns[0].introduces_axes), None)

    def drawn(self) -> dict[str, Tensor]:
        """Numbers that keep the rules, in the layouts of the call."""
        generator = torch.Generator().manual_seed(0)
        tensors = {}
        for entry in self.inputs:
            axes = self.layouts[entry.name]
            patterns = [p for p in entry.patterns if p.has("classes") == ("C" in axes)]
            pattern = (patterns or entry.patterns)[0]
            rules = [
                kind for rule in pattern.rules for kind in type(rule).__mro__ if kind in NUMBERS
            ]
            draw = Draw(axes, self.sizes, generator, pattern.kind)
            if entry.weight or (self.floating and pattern.kind != "Float"):
                tensors[entry.name] = draw.uniform()
            else:
                tensors[entry.name] = NUMBERS[rules[0]](draw) if rules else draw.normal()
        return tensors


def taken(signature: Signature) -> tuple[Input, ...]:
    """The inputs of `forward`: neither weights nor what belongs to the loss as a layer."""
    inputs = signature.reader.inputs
    return tuple(e for e in inputs if not (e.weight or e.patterns[0].introduces_axes))


def cases(safe: Any) -> list[Case]:
    """The calls of the grid that this loss may get, the plain one first."""
    signature, parameters = safe.forward.signature, inspect.signature(safe).parameters
    inputs = taken(signature)
    weights = [e for e in signature.reader.inputs if e.weight and e.name in parameters]
    texts = tuple(entry.patterns[0].text for entry in inputs)
    axes = texts if len(set(texts)) > 1 else texts[:1]
    grid = BY_NAME.get(signature.name, GRIDS.get(axes))
    if grid is None:
        return []
    pairs = [*grid.pairs, grid.pairs[0]._replace(where="B == 0")]
    found = [case for pair in pairs for case in _paired(safe, inputs, pair, grid.title)]
    if texts[0] != texts[1] and any(p.text == texts[0] for p in inputs[1].patterns):
        for pair in PROBABILITIES:
            paired = _paired(safe, inputs, pair, grid.title)
            found += [case._replace(floating=True) for case in paired]
    for entry in (*inputs, *weights):
        if entry.weight or entry.patterns[0].broadcast:
            found += _weighted(safe, inputs, entry)
    for slip in SLIPS:
        for entry in (*inputs, *weights):
            if slip.first == (entry is inputs[0]):
                found += _slipped(found[0], entry, slip)
    return found


def _paired(
    safe: type[nn.Module], inputs: tuple[Input, ...], pair: Pair, section: str
) -> list[Case]:
    """The call of a pair; of more inputs than it has layouts, each in turn has the last one."""
    names = [entry.name for entry in inputs]
    if len(pair.layouts) == len(inputs):
        turns = {"": dict(zip(names, pair.layouts))}
    else:
        first, last = pair.layouts
        plain = dict.fromkeys(names, first)
        moved = [entry.name for entry in inputs[1:] if not entry.patterns[0].broadcast]
        turns = {name: {**plain, name: last} for name in moved}
    return [
        Case(safe, inputs, layouts, name, str(pair), section, pair.sizes)
        for name, layouts in turns.items()
    ]


def _weighted(safe: type[nn.Module], inputs: tuple[Input, ...], entry: Input) -> list[Case]:
    """The calls with one weight, or with a variance, which is spread like one."""
    found = []
    for pair in SPREAD if entry.patterns[0].broadcast else PER_CLASS:
        first, last = pair.layouts
        if any(understood(pattern, first) is not None for pattern in inputs[0].patterns):
            shared = inputs[1].patterns[0].text == inputs[0].patterns[0].text
            layouts = dict.fromkeys([e.name for e in inputs], first if shared else ("B",))
            layouts |= {inputs[0].name: first, entry.name: last}
            given = (*inputs, entry) if entry.weight else inputs
            found.append(Case(safe, given, layouts, entry.name, str(pair), "Weights", pair.sizes))
    return found


def _slipped(plain: Case, entry: Input, slip: Slip) -> list[Case]:
    """The plain call with other numbers in an input that has a rule for them."""
    pattern = next((p for p in entry.patterns if slip.breaks(p)), None)
    if pattern is None:
        return []
    layouts = dict(plain.layouts)
    if entry.weight:
        layouts[entry.name] = ("C",)
    elif pattern.has("classes") and not slip.first:
        layouts[entry.name] = ("B", "C")
    inputs = (*plain.inputs, entry) if entry.weight else plain.inputs
    return [Case(plain.safe, inputs, layouts, entry.name, slip.what, "Numbers", SIZES, slip)]
