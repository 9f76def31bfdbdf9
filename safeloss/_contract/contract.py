"""What a kernel's `def` line says of its calls: the one place that decides whether one is right.

It sees shapes, dtypes and options, be they of tensors, of a trace or of an attempted fix.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from safeloss._contract import codes
from safeloss._contract.interpret import Reader
from safeloss._contract.model import Call, Evidence, Kind, Parameter, Reading, Refusal
from safeloss._contract.options import AT_CALL, MEANS, PLAIN_MEANS, option_error_text
from safeloss._contract.patterns import Pattern, Shape
from safeloss._contract.weights import (
    Unreduced,
    denominator_refusal,
    ignores_index,
    place_weights,
)
from safeloss._torch import any_zero, may_be_zero
from safeloss.errors import LayoutError, OptionError

LEGACY = ("size_average", "reduce")  # torch's old spelling of `reduction`


class Decision(NamedTuple):
    """What a call means, and what PyTorch must be given."""

    reading: Reading
    strategy: tuple[str, ...]  # of the reduction: see `Contract.strategy`


@dataclass(frozen=True, eq=False)
class Contract:
    """What a kernel's `def` line says of its calls."""

    name: str
    parameters: tuple[Parameter, ...]
    reader: Reader
    unreduced: tuple[Pattern, ...]  # the shape of `reduction="none"`
    divides_by_weights: (
        bool  # PyTorch divides the mean by the weights of the targets, not by their number
    )
    undefined_if_empty: bool  # PyTorch returns uninitialised memory for a mean over zero elements
    mean_over: str  # the axis that each unreduced number is a mean over, if it is one
    unweighted: str  # why no weight, mask or denominator has a meaning; empty: they have
    coupled: str  # an option: where it is true, there is one loss for all samples

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @functools.cached_property
    def options_with_choices(self) -> tuple[str, ...]:
        """The options that have a list of choices."""
        return tuple(parameter.name for parameter in self.parameters if parameter.choices)

    def positions(self, kind: Kind) -> tuple[int, ...]:
        """Where the parameters of one kind stand among all."""
        return tuple(i for i, parameter in enumerate(self.parameters) if parameter.kind is kind)

    def choices(self, option: str) -> tuple[Any, ...]:
        """The values that an option may have; empty if the kernel does not have it."""
        return next((p.choices for p in self.parameters if p.name == option), ())

    def make_call(
        self,
        shapes: Mapping[str, Shape],
        dtypes: Mapping[str, torch.dtype],
        options: dict[str, Any],
        evidence: Evidence | None,
    ) -> Call:
        """The `Call` of these arguments; sets `options["reduction"]` from its old spelling."""
        if options.get("size_average") is not None or options.get("reduce") is not None:
            summed = "sum" if options["size_average"] is False else "mean"
            options["reduction"] = "none" if options["reduce"] is False else summed
        given = [name for name in AT_CALL if name in shapes or options.get(name) is not None]
        return Call(shapes, dtypes, options, evidence, tuple(given))

    def decide(self, call: Call) -> Refusal | Decision:
        """What `call` means, or why it is refused."""
        misfit = option_error_text(self.parameters, call.options)
        if misfit:
            return Refusal(OptionError, misfit, code=codes.OPTION)
        reason = self.unweighted
        if self.coupled and call.options[self.coupled]:
            reason = f"with {self.coupled}=True there is one loss for all samples"
        if call.given and reason:
            rule = f"`{call.given[0]}` has no meaning for this loss: {reason}."
            return Refusal(OptionError, rule, code=codes.UNWEIGHTED)
        if "denominator" in call.given and call.options["reduction"] not in PLAIN_MEANS:
            return denominator_refusal(call)
        reading = self.reader.read(call)
        if call.given and isinstance(reading, Reading):
            unreduced = self.unreduced_axes(reading, call)
            reading = place_weights(reading, call, self.reader.inputs, unreduced)
            if isinstance(reading, Refusal) and self.mean_over and not reading.advice:
                reading = reading._replace(
                    advice="MultiLabelBCE has an unreduced loss for each label."
                )
        if isinstance(reading, Refusal):
            return reading
        strategy = self.strategy(reading, call)
        return strategy if isinstance(strategy, Refusal) else Decision(reading, strategy)

    def has_one_label(self, call: Call) -> bool:
        """Whether the batch has one sample, and its target is an index."""
        shape, dtype = call.shapes[self.reader.inputs[0].name], call.dtypes[self.reader.target]
        return len(shape) > 1 and shape[0] == 1 and not dtype.is_floating_point

    def unreduced_axes(self, reading: Reading, call: Call) -> Unreduced:
        """The axes of the unreduced loss."""
        declared = self._declared(reading)
        if declared is not None:
            pattern, shape = declared
            return Unreduced(pattern.labels(reading.axes), shape)
        # It depends on a distance function, which reduces the last axis.
        first = self.reader.inputs[0].name
        labels = reading.patterns[first].labels(reading.axes)
        return Unreduced(labels[:-1], tuple(call.shapes[first])[:-1])

    def _declared(self, reading: Reading) -> tuple[Pattern, Shape] | None:
        """The layout of the unreduced loss and its shape; None if its axes do not tell it."""
        for pattern in self.unreduced:
            shape = pattern.spell(reading.axes)
            if shape is not None:
                return pattern, shape
        return None

    def _averaged(self, declared: tuple[Pattern, Shape] | None, call: Call) -> Shape:
        """The sizes of the axes that the mean is taken over."""
        if declared is not None:
            shape = declared[1]
            return shape[:1] if call.options.get("reduction") == "batchmean" else shape
        # It depends on a distance function, which reduces the last axis: the batch is left.
        shape = call.shapes[self.reader.inputs[0].name]
        return shape[:1] if len(shape) > 1 else ()

    def is_empty_mean(self, reading: Reading, call: Call) -> bool | None:
        """Whether the result is a mean over zero elements; None if only the result can tell."""
        reduction, declared = self._reduction(call), self._declared(reading)
        empty = any_zero(self._averaged(declared, call))
        if self.mean_over and any_zero([reading.axes[self.mean_over]]):
            # Each unreduced number is itself a mean over this empty axis.
            return not empty or reduction in MEANS
        if reduction not in MEANS:
            return False
        sizes = call.shapes[self.reader.inputs[0].name]
        return empty if empty or declared is not None or not any_zero(sizes) else None

    def _reduction(self, call: Call) -> str:
        """How the result is reduced; with a denominator of its own a mean is a sum."""
        return "sum" if "denominator" in call.given else call.options.get("reduction", "mean")

    @property
    def offers_zero(self) -> bool:
        """Whether the loss takes `empty="zero"`."""
        return "zero" in self.choices("empty")

    def empty_mean_refusal(self) -> Refusal:
        """What `empty="raise"` says of a mean over zero elements."""
        rule = f"`{self.reader.inputs[0].name}` has no elements, and a mean over nothing is NaN."
        fixes = ('{loss}(empty="zero")',) if self.offers_zero else ()
        return Refusal(LayoutError, rule, code=codes.EMPTY_MEAN, fixes=fixes)

    def strategy(self, reading: Reading, call: Call) -> tuple[str, ...] | Refusal:
        """How the result is reduced: by PyTorch (no words), or by these words.

        `reductions.reduced` follows them. Beside the name of a reduction they are:
        "count": a mean over the number of elements, which is 0 where there is none.
        "total": a mean over what PyTorch counts, which is 0 where that adds up to 0.
        "rows": each unreduced number is itself a mean, which is 0 where its axis is empty.
        "weighted": with the weight, the mask or the denominator of the call.
        "divided": the denominator takes the place of the count.
        "masked": the mask is applied there, and not by `ignore_index`.
        "shared": a weight or a mask has one number for several of the loss.
        "zero": a divisor of 0 becomes 1, so that the mean is 0.
        "undeclared": the shape of the loss is not declared, so that its size must be verified.
        "narrow": the result is cast back to the dtype of the loss.
        """
        words = self._mean_strategy(reading, call)
        given = call.given
        if isinstance(words, Refusal) or not given:
            return words
        masked = "mask" in given and not ignores_index(reading, call, self.reader.target)
        scores = call.dtypes[self.reader.inputs[0].name]
        half = scores in (torch.float16, torch.bfloat16)  # a sum of which may overflow
        if not (masked or half or words or "sample_weight" in given):
            return ("divided",) if "denominator" in given else ()
        if not masked and given == ("mask",):
            return words
        options = [
            ("rows", "rows" in words),
            ("masked", masked),
            ("shared", reading.shares),
            ("zero", call.options.get("empty") == "zero"),
            ("divided", "denominator" in given),
            ("undeclared", self._declared(reading) is None),
            ("narrow", call.dtypes.get("sample_weight") == torch.float64),
        ]
        reduction = call.options.get("reduction", "mean")
        return ("weighted", reduction, *[word for word, holds in options if holds])

    def _mean_strategy(self, reading: Reading, call: Call) -> tuple[str, ...] | Refusal:
        empty = call.options.get("empty", "warn")
        if not (self.undefined_if_empty or empty in ("zero", "raise")):
            return ()
        if empty == "raise" and self.is_empty_mean(reading, call):
            return self.empty_mean_refusal()
        declared, reduction = self._declared(reading), self._reduction(call)
        sizes = self._averaged(declared, call)
        if empty == "zero" and self.mean_over and may_be_zero(reading.axes[self.mean_over]):
            return ("rows", "count") if reduction in MEANS else ("rows", reduction)
        if reduction not in MEANS:
            undefined = self.undefined_if_empty and reduction == "sum"
            return ("sum",) if undefined and any([may_be_zero(size) for size in sizes]) else ()
        if any_zero(sizes):
            if empty == "zero":
                return ("sum",)
            return ("mean",) if self.undefined_if_empty else ()
        if empty == "zero" and self._divides_by_values(reading, call):
            return ("total",)
        if empty == "zero" and declared is None:
            sizes = call.shapes[self.reader.inputs[0].name]  # any of them may be left
        if (empty == "zero" or self.undefined_if_empty) and any([may_be_zero(n) for n in sizes]):
            return ("count", reduction) if empty == "zero" else ("mean",)
        return ()

    def _divides_by_values(self, reading: Reading, call: Call) -> bool:
        indices = reading.patterns[self.reader.target].reads == "AS_INDICES"
        return self.divides_by_weights and (indices or "weight" in call.shapes)
