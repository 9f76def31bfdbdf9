"""A kernel's `def` line, read once: what a call of it depends on, and how native is run."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from operator import or_
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.interpret import Reader
from safeloss._contract.model import Call, Evidence, Input, Mistake, Reading, Refusal
from safeloss._contract.options import OURS, SIZED, refused_option
from safeloss._contract.patterns import Pattern, Shape, parse
from safeloss._runtime.memory import Memory, Sites
from safeloss._runtime.operators import NUMBERS, Operator
from safeloss._torch import is_zero, may_be_zero
from safeloss.errors import LayoutError, OptionError

Named: TypeAlias = dict[str, Any]  # the arguments of one call, by the names of their parameters
Kernel: TypeAlias = Callable[..., Tensor]
Total: TypeAlias = Callable[[Named], Tensor | None]

LEGACY = ("size_average", "reduce")  # torch's old spelling of `reduction`
MEANS = ("mean", "batchmean", "elementwise_mean")  # the last is an old name, and legal


class Sources(NamedTuple):
    """Where a face finds the arguments of its kernel: among its own, or in one of those."""

    each: tuple[tuple[int, str] | None, ...]  # by position: a place, and the name of an attribute

    def arguments(self, given: tuple[Any, ...]) -> list[Any]:
        found: list[Any] = []
        for source in self.each:
            if source is None:
                found.append(None)
            elif source[1]:
                found.append(getattr(given[source[0]], source[1]))
            else:
                found.append(given[source[0]])
        return found


class Decision(NamedTuple):
    """What a call means, and what PyTorch must be given."""

    reading: Reading
    strategy: str  # of the mean: see `Signature.mean_strategy`


class Signature(NamedTuple):
    """What a kernel's `def` line says, read once."""

    name: str
    kernel: Kernel
    total: Total | None  # computes the divisor of a mean, where values decide it
    unreduced: tuple[Pattern, ...]  # the shape of `reduction="none"`
    undefined_if_empty: bool  # PyTorch returns uninitialised memory for a mean over zero elements
    parameters: tuple[inspect.Parameter, ...]
    names: tuple[str, ...]  # of the parameters
    positional: tuple[str, ...]  # those that torch takes by position
    by_name: tuple[str, ...]  # those that torch takes by name
    slots: tuple[int, ...]  # where the positional ones stand among all
    native: Kernel | None  # of `torch.nn.functional`, where there is one
    operator: Kernel | None  # that native ends in, if it is a single one
    taken: tuple[int, ...]  # by the operator; -1 is None
    reduction: int  # where its name stands among all, which the operator takes as a number
    tensors: tuple[str, ...]  # those that are declared as tensors
    counts: tuple[str, ...]  # the options that a verdict may depend on, and that are numbers
    chosen: tuple[str, ...]  # those that are anything else
    reader: Reader
    choices: tuple[tuple[str, tuple[Any, ...]], ...]  # of the options that have a list of them
    integers: tuple[tuple[str, bool], ...]  # the options that are, and whether None will do
    memory: Memory  # of the function: the plans, and the class axes, of all places that call it
    sites: Sites  # the places that call the function
    module_sites: Sites  # ... and those that call a module

    @property
    def native_name(self) -> str:
        return "" if self.native is None else self.native.__name__

    def key_source(self, arguments: Mapping[str, str]) -> str:
        """What a call is looked up by, as source code: all that the verdict depends on.

        That is the shapes and dtypes of the tensors, and the options that decide. The first part is
        the shape of the first input. `arguments` says by which expression each is found.
        """
        optional = {entry.name: entry.weight for entry in self.reader.inputs}
        parts = []
        for parameter in self.parameters:
            name, source = parameter.name, arguments[parameter.name]
            if optional.get(name):
                parts.append(f"{source} if {source} is None else ({source}.shape, {source}.dtype)")
            elif name in optional:
                parts.append(f"{source}.shape, {source}.dtype")
            elif source == "None":
                continue  # it never changes
            elif name in self.counts:  # True and 1.0 equal 1, and are another option
                plain = " is None" if parameter.default is None else ".__class__ is int"
                parts.append(f"{source} if {source}{plain} else ({source}.__class__, {source})")
            elif name in self.chosen:
                parts.append(source)
        return ", ".join(parts)

    def call(self, evidence: Evidence | None, named: Named) -> Call:
        """What the verdict on a call depends on."""
        shapes, dtypes, options = {}, {}, {}
        for name, value in named.items():
            if isinstance(value, Tensor) and name in self.tensors:
                shapes[name], dtypes[name] = value.shape, value.dtype
            else:
                options[name] = value
        return self.called(shapes, dtypes, options, evidence)

    def called(
        self,
        shapes: Mapping[str, Shape],
        dtypes: Mapping[str, torch.dtype],
        options: Named,
        evidence: Evidence | None,
    ) -> Call:
        if options.get("size_average") is not None or options.get("reduce") is not None:
            summed = "sum" if options["size_average"] is False else "mean"
            options["reduction"] = "none" if options["reduce"] is False else summed
        return Call(shapes, dtypes, options, evidence)

    def decide(self, call: Call) -> Refusal | Decision:
        """What `call` means, or why it is refused: the one place that decides.

        It sees shapes, dtypes and options, be they of tensors, of a trace or of an attempted fix.
        """
        misfit = refused_option(self.choices, self.integers, call.options)
        if misfit:
            return Refusal(OptionError, misfit, code=codes.OPTION)
        reading = self.reader.read(call)
        if isinstance(reading, Refusal):
            return reading
        strategy = self.mean_strategy(reading, call)
        return strategy if isinstance(strategy, Refusal) else Decision(reading, strategy)

    def has_one_label(self, call: Call) -> bool:
        """Whether the batch has one sample, and its target is an index."""
        shape, dtype = call.shapes[self.reader.inputs[0].name], call.dtypes[self.reader.target]
        return len(shape) > 1 and shape[0] == 1 and not dtype.is_floating_point

    def averaged_sizes(self, reading: Reading, call: Call) -> Shape:
        """The sizes of the axes that the mean is taken over."""
        for pattern in self.unreduced:
            spelled = pattern.spell(reading.axes)
            if spelled is not None:
                return spelled[:1] if call.options.get("reduction") == "batchmean" else spelled
        # Not declared, as of a distance function: it takes the last axis, and the batch is left.
        shape = call.shapes[self.reader.inputs[0].name]
        return shape[:1] if len(shape) > 1 else ()

    def is_empty_mean(self, reading: Reading, call: Call) -> bool:
        """Whether the sizes tell that the result is a mean over zero elements."""
        if call.options.get("reduction", "mean") not in MEANS:
            return False
        return any([is_zero(size) for size in self.averaged_sizes(reading, call)])

    def mean_strategy(self, reading: Reading, call: Call) -> str | Refusal:
        """How the result is reduced: by PyTorch (""), or from the unreduced loss by `averaged`."""
        empty = call.options.get("empty", "warn")
        if not (self.undefined_if_empty or empty in ("zero", "raise")):
            return ""
        sizes = self.averaged_sizes(reading, call)
        if call.options.get("reduction", "mean") not in MEANS:
            undefined = self.undefined_if_empty and call.options["reduction"] == "sum"
            return "sum" if undefined and any([may_be_zero(size) for size in sizes]) else ""
        if any([is_zero(size) for size in sizes]):
            if empty == "raise":
                first = self.reader.inputs[0].name
                rule = f"`{first}` has no elements, and a mean over nothing is NaN."
                offers_zero = "zero" in dict(self.choices)["empty"]
                fixes = ('{loss}(empty="zero")',) if offers_zero else ()
                return Refusal(LayoutError, rule, code=codes.EMPTY_MEAN, fixes=fixes)
            if empty == "zero":
                return "sum"
            return "mean" if self.undefined_if_empty else ""
        if empty == "zero" and self._divides_by_values(reading, call):
            return "total"
        if empty == "zero" and not self._declared(reading):
            sizes = call.shapes[self.reader.inputs[0].name]  # any of them may be left
        if (empty == "zero" or self.undefined_if_empty) and any([may_be_zero(n) for n in sizes]):
            return "count" if empty == "zero" else "mean"
        return ""

    def _declared(self, reading: Reading) -> bool:
        return any([pattern.spell(reading.axes) is not None for pattern in self.unreduced])

    def _divides_by_values(self, reading: Reading, call: Call) -> bool:
        indices = reading.patterns[self.reader.target].reads == "AS_INDICES"
        return self.total is not None and (indices or "weight" in call.shapes)

    def number(self, call: Call) -> int | None:
        """torch's number of the reduction, where the operator alone does what the kernel does."""
        if self.operator is None or self.native is None:
            return None
        if vars(F).get(self.native.__name__) is not self.native:
            return None  # somebody has put something else in its place
        for position, parameter in enumerate(self.parameters):
            name = parameter.name
            if position in self.taken or name in OURS:
                continue
            if name in call.shapes or call.options[name] is not parameter.default:
                return None
        return NUMBERS.get(call.options["reduction"])

    def edited(self, reading: Reading, named: Named) -> Named:
        """The arguments as native must get them."""
        return {
            name: reading.edits[name].apply(value) if name in reading.edits else value
            for name, value in named.items()
        }

    def given(self, strategy: str, named: Named) -> tuple[list[Any], Named]:
        """The arguments that torch takes, by position and by name; for `averaged`, unreduced."""
        if strategy:
            given = {name: None if name in LEGACY else value for name, value in named.items()}
            named = {**given, "reduction": "none"}
        return (
            [named[name] for name in self.positional],
            {name: named[name] for name in self.by_name},
        )


def averaged(loss: Tensor, total: Total | None, strategy: str, named: Named) -> Tensor:
    """The unreduced `loss`, reduced as `Signature.mean_strategy` says."""
    if strategy == "sum":
        return loss.sum()
    if strategy == "mean":
        return loss.mean()
    half = loss.dtype in (torch.float16, torch.bfloat16)
    divisor: Any = None
    if total is not None and strategy == "total":
        weight = named.get("weight")
        if half and weight is not None:  # whose total may overflow
            named = {**named, "weight": weight.float()}
        divisor = total(named)
    if divisor is None:
        count = loss.shape[0] if named.get("reduction") == "batchmean" else loss.numel()
        divisor = torch.sym_max(count, 1)
    else:
        divisor = torch.where(divisor == 0, 1, divisor)
    if half:  # PyTorch's means accumulate in float32, and a half sum may overflow
        return (loss.sum(dtype=torch.float32) / divisor).to(loss.dtype)
    return loss.sum() / divisor


def signature_of(
    kernel: Kernel,
    native: Kernel | None,
    operator: Operator | None,
    mistakes: tuple[Mistake, ...],
    total: Total | None,
    undefined_if_empty: bool,
) -> Signature:
    """What `inspect` and the hints of `kernel` say, in the form that calls are read by."""
    parameters = inspect.signature(kernel).parameters
    inputs, choices = [], []
    for name, parameter in parameters.items():
        patterns = parse(parameter.annotation)
        if patterns:
            last = tuple(pattern.classes_last() for pattern in patterns)
            weight = parameter.default is not parameter.empty
            members = typing.get_args(parameter.annotation)
            tensor = all(parse(member) or member is type(None) for member in members)
            if typing.get_origin(parameter.annotation) is typing.Annotated:
                tensor = True
            arrays = functools.reduce(or_, [pattern.hint for pattern in patterns])
            hint = parameter.annotation
            inputs.append(Input(name, hint, arrays, patterns, last, weight, tensor))
        elif listed := _choices(parameter.annotation):
            choices.append((name, listed))
    target = next(x.name for x in inputs[1:] if not any(p.binds for p in x.patterns))
    sized = tuple((axis, option) for axis, option in SIZED if option in parameters)
    places = {name: place for place, name in enumerate([*parameters])} | {"None": -1}
    taken = [p for p in parameters.values() if p.name not in OURS]
    arrays = [entry.name for entry in inputs]
    kinds = {name: _kinds(p.annotation) for name, p in parameters.items() if name not in arrays}
    # A verdict may depend on choices and counts, but not on numbers.
    deciding = [name for name, known in kinds.items() if known & {int, bool, str}]
    return Signature(
        kernel.__name__.lstrip("_"),
        kernel,
        total,
        parse(inspect.signature(kernel).return_annotation),
        undefined_if_empty,
        tuple(parameters.values()),
        tuple(parameters),
        tuple(p.name for p in taken if p.kind is not p.KEYWORD_ONLY),
        tuple(p.name for p in taken if p.kind is p.KEYWORD_ONLY),
        tuple(list(parameters).index(p.name) for p in taken if p.kind is not p.KEYWORD_ONLY),
        native,
        None if operator is None else operator.call,
        () if operator is None else tuple(places[name] for name in operator.takes),
        places.get("reduction", -1),
        tuple(entry.name for entry in inputs),
        tuple(name for name in deciding if int in kinds[name]),
        tuple(name for name in deciding if int not in kinds[name]),
        Reader(tuple(inputs), target, sized, mistakes),
        tuple(choices),
        tuple(
            (name, parameter.annotation is not int)
            for name, parameter in parameters.items()
            if parameter.annotation in (int, int | None)
        ),
        Memory(unread=False),
        Sites(),
        Sites(),
    )


@functools.cache
def _kinds(hint: Any) -> frozenset[Any]:
    """What an option may be, by its hint and the choices that this lists."""
    return frozenset([hint, *typing.get_args(hint), *map(type, _choices(hint))])


def _choices(hint: Any) -> tuple[Any, ...]:
    """The values that a hint of literals lists: `Literal[1, -1] | None` gives `(1, -1, None)`."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    members = typing.get_args(hint)
    if not any(typing.get_origin(member) is typing.Literal for member in members):
        return ()
    return tuple(choice for member in members for choice in _choices(member) or (None,))
