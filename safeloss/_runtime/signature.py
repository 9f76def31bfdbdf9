"""A kernel's `def` line, read once: the contract of its calls, and how PyTorch is run."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter, or_
from typing import Any, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor

from safeloss._contract.contract import LEGACY, Contract
from safeloss._contract.interpret import Reader
from safeloss._contract.model import Call, Evidence, Input, Kind, Mistake, Parameter
from safeloss._contract.options import AT_CALL, OURS, SIZED
from safeloss._contract.patterns import Pattern, parse
from safeloss._runtime.evidence import Sites
from safeloss._runtime.memory import Memory
from safeloss._runtime.operators import NUMBERS, Operator

Named: TypeAlias = dict[str, Any]  # the arguments of one call, by the names of their parameters
Kernel: TypeAlias = Callable[..., Tensor]
# A function of some of a kernel's arguments, and their positions among all.
OfSome: TypeAlias = tuple[Callable[..., Any], tuple[int, ...]]
# How PyTorch's mean counts, where that is not once for each element of the unreduced loss: what it
# counts for each (by a None 1), and what it divides each by before. (Dynamo of torch 2.6 takes
# plain tuples.)
Counting: TypeAlias = tuple[OfSome | None, OfSome | None]


class Order(NamedTuple):
    """How a kernel takes its arguments, by their positions among all."""

    names: tuple[str, ...]  # of all
    positional: tuple[int, ...]
    by_name: tuple[int, ...]
    reduction: int
    legacy: tuple[int, ...]  # torch's old spelling of the reduction
    at_call: tuple[int, ...]  # the sample weight, the mask and the denominator


@dataclass(frozen=True, eq=False)
class Signature(Contract):
    """A contract, and the kernel that it belongs to."""

    kernel: Kernel
    counting: Counting
    native: Kernel | None  # of `torch.nn.functional`, where there is one
    operator: Operator | None  # that PyTorch's function ends in, if it is a single one
    memory: Memory  # of the function: the plans, and the class axes, of all places that call it
    sites: Sites  # the places that call the function
    module_sites: Sites  # ... and those that call a module

    @functools.cached_property
    def integers(self) -> tuple[str, ...]:
        """The options that must be integers."""
        return tuple(parameter.name for parameter in self.parameters if parameter.integer)

    @functools.cached_property
    def chosen_of(self) -> Callable[[Any], tuple[Any, ...]]:
        """Gives the values of `options_with_choices` that a module has as attributes."""
        names = self.options_with_choices
        # Of a single name it would give no tuple.
        return attrgetter(*names) if len(names) > 1 else lambda module: (getattr(module, *names),)

    @functools.cached_property
    def valid(self) -> set[tuple[Any, ...]]:
        """Values of `options_with_choices` that were found right; with their types if not all are
        None or strings."""
        return set()

    @functools.cached_property
    def own(self) -> Any:
        """The checked function of a loss that somebody else wrote; None for those of torch."""
        return getattr(self.kernel, "checked", None)

    @property
    def body(self) -> Kernel | None:
        """The body of such a loss, where the kernel is it and a reduction of torch's; or None."""
        return getattr(self.kernel, "unreduced", None)

    @property
    def native_name(self) -> str:
        return "" if self.native is None else self.native.__name__

    @functools.cached_property
    def order(self) -> Order:
        native = [(i, p) for i, p in enumerate(self.parameters) if p.native]
        return Order(
            self.names,
            tuple(i for i, p in native if not p.keyword_only),
            tuple(i for i, p in native if p.keyword_only),
            self.names.index("reduction") if "reduction" in self.names else -1,
            tuple(i for i, p in native if p.name in LEGACY),
            tuple(self.names.index(name) for name in AT_CALL if name in self.names),
        )

    @functools.cached_property
    def operands(self) -> tuple[int, ...]:
        """The positions of what the operator takes; -1 is None."""
        places = {name: i for i, name in enumerate(self.names)} | {"None": -1}
        return () if self.operator is None else tuple(places[name] for name in self.operator.takes)

    def key_parts(self, arguments: Mapping[str, str]) -> list[str]:
        """What a call is looked up by, as source code: all that the verdict depends on.

        That is the shapes and dtypes of the tensors, and the options that decide. The first part is
        the shape of the first input. `arguments` says by which expression each is found.
        """
        weights = [entry.name for entry in self.reader.inputs if entry.weight]
        parts = []
        for parameter in self.parameters:
            if parameter.name in AT_CALL:
                continue
            source = arguments[parameter.name]
            if parameter.name in weights:
                parts.append(f"{source} if {source} is None else ({source}.shape, {source}.dtype)")
            elif parameter.kind is Kind.TENSOR:
                parts += [f"{source}.shape", f"{source}.dtype"]
            elif source == "None":
                continue  # it never changes
            elif parameter.kind is Kind.INTEGER:  # True and 1.0 equal 1, and are another option
                plain = " is None" if parameter.default is None else ".__class__ is int"
                parts.append(f"{source} if {source}{plain} else ({source}.__class__, {source})")
            elif parameter.kind is Kind.CHOICE:
                parts.append(source)
        return parts

    def key_parts_at_call(self) -> list[str]:
        """The parts that are added where anything is given with the call.

        The value of a denominator decides nothing.
        """
        parts = {
            "sample_weight": "(sample_weight.shape, sample_weight.dtype)",
            "mask": "(mask.shape, mask.dtype)",
            "denominator": "(getattr(denominator, 'shape', 0), "
            "getattr(denominator, 'dtype', denominator.__class__))",
        }
        return [
            f"{name} if {name} is None else {parts[name]}" for name in self.names if name in parts
        ]

    def call(self, evidence: Evidence | None, named: Named) -> Call:
        """What the verdict on a call with these arguments depends on."""
        shapes, dtypes, options = {}, {}, {}
        for parameter in self.parameters:
            name, value = parameter.name, named[parameter.name]
            if parameter.kind is Kind.TENSOR and isinstance(value, Tensor):
                shapes[name], dtypes[name] = value.shape, value.dtype
            else:
                options[name] = value
        return self.make_call(shapes, dtypes, options, evidence)

    def reduction_code(self, call: Call, reduction: str) -> int | None:
        """torch's number of the reduction, where the operator alone does what the kernel does."""
        if self.operator is None or self.native is None:
            return None
        if vars(F).get(self.native.__name__) is not self.native:
            return None  # somebody has put something else in its place
        for position, parameter in enumerate(self.parameters):
            name = parameter.name
            if position in self.operands or not parameter.native:
                continue
            if name in call.shapes or call.options[name] is not parameter.default:
                return None
        return NUMBERS.get(reduction)


def signature_of(
    kernel: Kernel,
    native: Kernel | None,
    operator: Operator | None,
    mistakes: tuple[Mistake, ...],
    counts: Callable[..., Tensor | None] | None,
    lengths: Callable[..., Tensor] | None,
    undefined_if_empty: bool,
    mean_over: str,
    unweighted: str,
    coupled: str,
) -> Signature:
    """What `inspect` and the hints of `kernel` say, in the form that calls are read by."""
    declared = inspect.signature(kernel)
    unreduced = parse(declared.return_annotation)
    inputs = [_input(p, unreduced) for p in declared.parameters.values() if parse(p.annotation)]
    tensors = [entry.name for entry in inputs]
    # A loss of a single tensor has no other that could be matched against it.
    matched = [
        x.name for x in inputs[1:] if not (x.weight or any(p.introduces_axes for p in x.patterns))
    ]
    target = (*matched, inputs[0].name)[0]
    # What the body of somebody else's loss is not given is what we have added to its signature.
    added = getattr(kernel, "added", (*OURS, *AT_CALL))
    sized = [(axis, option) for axis, option in SIZED if option in declared.parameters]
    return Signature(
        name=kernel.__name__.lstrip("_"),
        parameters=tuple(
            _parameter(p, p.name in tensors, p.name not in added)
            for p in declared.parameters.values()
        ),
        reader=Reader(
            tuple(inputs),
            target,
            tuple(each for each in sized if each[1] in added),
            mistakes,
        ),
        unreduced=unreduced,
        divides_by_weights=counts is not None,
        undefined_if_empty=undefined_if_empty,
        mean_over=mean_over,
        unweighted=unweighted,
        coupled=coupled,
        kernel=kernel,
        counting=(_of_some(counts, declared), _of_some(lengths, declared)),
        native=native,
        operator=operator,
        memory=Memory(values_unchecked=False),
        sites=Sites(),
        module_sites=Sites(),
    )


def _of_some(
    function: Callable[..., Tensor | None] | None, declared: inspect.Signature
) -> OfSome | None:
    """`function` takes parameters of a kernel, by their names."""
    if function is None:
        return None
    names = [*declared.parameters]
    taken = inspect.signature(function).parameters
    return function, tuple(names.index(name) for name in taken)


def _input(parameter: inspect.Parameter, unreduced: tuple[Pattern, ...]) -> Input:
    """A parameter that is declared as a tensor."""
    hint = parameter.annotation
    patterns = parse(hint)
    if patterns[0].reads == "PER_LOSS":  # whose shape the return annotation says
        texts = dict.fromkeys([pattern.text for pattern in unreduced if pattern.dims])
        patterns = (patterns[0]._replace(text=" or ".join(texts)),)
    alone = all(parse(member) or member is type(None) for member in typing.get_args(hint))
    return Input(
        name=parameter.name,
        hint=hint,
        arrays=functools.reduce(or_, [pattern.hint for pattern in patterns]),
        patterns=patterns,
        patterns_last=tuple(pattern.classes_last() for pattern in patterns),
        weight=parameter.default is not parameter.empty,
        tensor=alone or typing.get_origin(hint) is typing.Annotated,
    )


def _parameter(parameter: inspect.Parameter, tensor: bool, native: bool) -> Parameter:
    hint = parameter.annotation
    choices = () if tensor else _choices(hint)
    members = [hint, *typing.get_args(hint), *map(type, choices)]
    kind = Kind.FREE
    if tensor:
        kind = Kind.TENSOR
    elif any(plain in members for plain in (int, bool, str)):  # it may decide; a float never does
        kind = Kind.INTEGER if int in members else Kind.CHOICE
    return Parameter(
        name=parameter.name,
        kind=kind,
        default=parameter.default,
        keyword_only=parameter.kind is parameter.KEYWORD_ONLY,
        native=native,
        choices=choices,
        integer=hint in (int, int | None),
        optional=hint is not int,
    )


def _choices(hint: Any) -> tuple[Any, ...]:
    """The values that a hint of literals lists: `Literal[1, -1] | None` gives `(1, -1, None)`."""
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    members = typing.get_args(hint)
    if not any(typing.get_origin(member) is typing.Literal for member in members):
        return ()
    return tuple(choice for member in members for choice in _choices(member) or (None,))
