"""A call that was accepted: what came, what it means, and what PyTorch is about to get."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safeloss._contract.ctc import as_lengths
from safeloss._contract.model import Call, Reading
from safeloss._contract.patterns import Pattern
from safeloss._contract.values import Broken, ValueContext, first_broken
from safeloss._runtime.masks import filled, mask_of
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import readable


@dataclass(eq=False)
class Accepted:
    """A call whose types, shapes and dtypes are right. What its numbers are is not known yet."""

    signature: Signature
    owner: Any  # the module, or None
    named: Named
    call: Call
    reading: Reading
    strategy: tuple[str, ...]  # of the reduction

    @functools.cached_property
    def symbolic(self) -> bool:
        """Whether a size is a symbol, which cannot be a part of a key."""
        sizes = [size for shape in self.call.shapes.values() for size in shape]
        return any([isinstance(size, torch.SymInt) for size in sizes])

    @functools.cached_property
    def steps(self) -> dict[str, list[Callable[[Tensor], Tensor]]]:
        """The views and casts that arguments need, decided once for their shapes."""
        shapes = self.call.shapes
        return {name: edit.steps(shapes[name]) for name, edit in self.reading.edits.items()}

    @property
    def fits_form(self) -> bool:
        """Whether it runs as all calls do that differ from it in nothing that decides."""
        always = self.call.options.get("check_values") == "always"
        edits = self.reading.edits.items()
        return not (always or any([e.names_sizes(self.call.shapes[name]) for name, e in edits]))

    @functools.cached_property
    def aligned(self) -> Named:
        """The arguments in the shapes and dtypes that PyTorch must get."""
        aligned = dict(self.named)
        for name, steps in self.steps.items():
            for step in steps:
                aligned[name] = step(aligned[name])
        return aligned

    @functools.cached_property
    def context(self) -> ValueContext:
        """What the rules on numbers see: the call as PyTorch gets it, with lists as tensors."""
        arguments, masks = {**self.aligned, **self._lists}, {}
        for name, masked in self.reading.masked.items():
            mask = arguments["mask"]
            masks[name] = mask_of(mask, masked.shared, masked.missing, masked.own)
            if masked.value is not None:
                arguments[name] = filled(arguments[name], mask, *masked)
        return ValueContext(arguments, self.call.options, self.reading.axes, masks=masks)

    @functools.cached_property
    def readable(self) -> bool:
        """Whether its numbers can be read."""
        return readable(self.tensors.values())

    @functools.cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors as the user gave them, and the lists that are declared as such."""
        came = {name: value for name, value in self.named.items() if isinstance(value, Tensor)}
        return {**came, **self._lists}

    @functools.cached_property
    def patterns(self) -> dict[str, Pattern]:
        """The layouts of the arguments; of a list the one that is declared for a tensor."""
        declared = {entry.name: entry.patterns[0] for entry in self.signature.reader.inputs}
        return {**self.reading.patterns, **{name: declared[name] for name in self._lists}}

    @functools.cached_property
    def _lists(self) -> dict[str, Tensor]:
        """What is declared as a tensor or a list and came as a list, as a tensor."""
        names = [entry.name for entry in self.signature.reader.inputs]
        lists = [name for name in names if isinstance(self.named[name], (list, tuple))]
        tensors = {name: as_lengths(self.named[name]) for name in lists}
        return {name: lengths for name, lengths in tensors.items() if lengths is not None}

    def class_axis(self, name: str) -> int | None:
        """The axis of the classes in an argument as the user gave it; None if there is none."""
        rank, edits = self.tensors[name].dim(), self.reading.edits
        axis = self.patterns[name].class_axis(rank)
        moved = axis is not None and name in edits and edits[name].classes_to_second
        return rank - 1 if moved else axis

    def broken(self) -> dict[str, Broken]:
        """The first rule that each argument breaks by its numbers."""
        context = self.context
        found = {}
        for name, pattern in self.patterns.items():
            if pattern.rules:
                values, counted = context.arguments[name], context.masks.get(name)
                broken = first_broken(values, pattern.rules, context, counted)
                if broken is not None:
                    found[name] = broken
        return found
