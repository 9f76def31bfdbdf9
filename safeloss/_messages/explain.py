"""What to say to somebody whose call was refused: the table, what PyTorch does, and the fixes.

Runs only when about to raise.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.labels import are_whole, listed
from safeloss._contract.model import Call, Input, Refusal
from safeloss._contract.options import AT_CALL, OURS
from safeloss._contract.patterns import Pattern, dtypes_of
from safeloss._contract.values import Broken, NotNaN, ValueContext, is_legible
from safeloss._messages.fixes import (
    Callee,
    Trial,
    accepted_fixes,
    by_layout,
    conversion_offers,
    fixes_of,
    is_accepted_fix,
    is_swapped,
    stand_ins,
    swap_fix,
    tensor_fields,
    whole_call,
)
from safeloss._messages.shapes import element_wise, facts, has_crossed_ones
from safeloss._messages.stack import raised_by_torch
from safeloss._torch import constant_while_compiling, has_nested_size
from safeloss.errors import (
    Argument,
    ArgumentTypeError,
    DeviceError,
    DTypeError,
    Fix,
    OptionError,
    SafeLossError,
    ValueRangeError,
    current_rank,
)

_MOST_FIXES = 3
# What torch raises about arguments; any other type is about something else.
_PLAIN = (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError)
# Its messages about a dtype that it does not support.
_DTYPES = re.compile("quantiz|[Ss]parse|omplex|not implemented for|Quantized|dtype|output type")
# ... and about numbers: an index past the classes, a probability of 2, ...
_VALUES = re.compile(
    "out of (bounds|range)|between 0 and 1|negative entr|values should be|_lengths|at dimension"
)
_SMALL = 1024  # elements: up to here PyTorch is asked what it does with these very arguments
SWAPPED = "the arguments are in the wrong order: PyTorch's is (`{0}`, `{1}`), scores before labels."


class Where(NamedTuple):
    """The argument whose values break a rule, as the user gave it."""

    argument: str
    axis: int  # that holds the classes
    moved: bool  # whether PyTorch gets that axis as the second


def explain(
    callee: Callee,
    inputs: tuple[Input, ...],
    call: Call,
    refusal: Refusal,
    accepts: Callable[[Call], bool],
    trial: Trial | None = None,
    target: str = "",
) -> SafeLossError:
    """The error for `refusal`, each of its fixes tried.

    Without a `trial`, fixes are tried on shapes and dtypes. `target` is the argument that the first
    one may have changed places with.
    """
    if refusal.error is OptionError:
        return OptionError.about(callee.name, refusal.rule, code=refusal.code)
    nested = any([has_nested_size(shape) for shape in call.shapes.values()])
    trial = trial or (None if nested else by_layout(call, accepts))
    rule, code, advice, fixes = refusal.rule, refusal.code, refusal.advice, []
    if nested or trial is None:
        advice = f"{advice} Nested tensors fit where they have the same offsets.".lstrip()
    elif target and is_swapped(inputs, trial, target):
        rule, code = SWAPPED.format(inputs[0].name, target), codes.SWAPPED
        advice, fixes = "", [swap_fix(callee, inputs, call, target)]
    else:
        fixes = fixes_of(callee, inputs, call, refusal, trial)
        if not advice and has_crossed_ones(inputs, call):
            advice = "Their axes of size 1 stand at different places."
        elif not advice and not refusal.fixes:
            advice = facts(inputs, call, refusal)
        if "argmax" not in advice and _has_chosen_classes(inputs[0], call, trial):
            advice += (
                f" `{inputs[0].name}` holds whole numbers: if it comes out of `argmax`, pass the "
                "scores from before it."
            )
    return refusal.error.about(
        callee.name,
        rule,
        code=code,
        arguments=table(inputs, call),
        native="" if nested else _run_pytorch(callee, call, trial),
        advice=advice.lstrip(),
        fixes=tuple(fixes)[:_MOST_FIXES],
    )


def _has_chosen_classes(first: Input, call: Call, trial: Trial) -> bool:
    """Whether class numbers stand where the scores of classes should."""
    scores = trial.names[first.name]
    if not trial.readable or not any(pattern.has("classes") for pattern in first.patterns):
        return False
    if not isinstance(scores, Tensor) or scores.requires_grad or not scores.is_floating_point():
        return False
    return is_legible(scores) and are_whole(scores) and bool((scores > 1).any())


def explain_type(
    loss: str,
    inputs: tuple[Input, ...],
    named: Mapping[str, Any],
    wrong: list[str],
    callee: Callee | None = None,
    call: Call | None = None,
    trial: Trial | None = None,
) -> SafeLossError:
    """The error for arguments that are no tensors; with a `trial`, it offers fixes."""
    rows = []
    for entry in inputs:
        value = named[entry.name]
        if value is not None or not entry.weight:
            rows.append(Argument(entry.name, _describe_value(value), declared_text(entry.patterns)))
    names = " and ".join([f"`{name}`" for name in wrong])
    tensors = "must be a tensor." if len(wrong) == 1 else "must be tensors."
    fixes: list[Fix] = []
    if wrong == ["denominator"]:
        tensors = "must be one number, or a tensor that holds one."
    elif callee is not None and call is not None and trial is not None:
        fixes = _conversion_fixes(inputs, named, wrong, callee, call, trial)
    advice = " ".join(filter(None, [_about_type(entry, named) for entry in inputs]))
    return ArgumentTypeError.about(
        loss,
        f"{names} {tensors}",
        code=codes.NO_TENSOR,
        arguments=tuple(rows),
        advice=advice,
        fixes=tuple(fixes)[:_MOST_FIXES],
    )


def _about_type(entry: Input, named: Mapping[str, Any]) -> str:
    """What to say of an argument that is no tensor, by what it is."""
    name, value = entry.name, named[entry.name]
    if isinstance(value, Mapping):
        keys = ", ".join([repr(key) for key in value])
        tensors = any(isinstance(each, Tensor) for each in value.values())
        return f"`{name}` has the keys {keys}{': pass the tensor that is meant' * tensors}."
    if tensor_fields(value):
        return f"`{name}` has the tensors {', '.join(tensor_fields(value))}: pass one of them."
    if isinstance(value, (tuple, list)) and any(isinstance(each, Tensor) for each in value):
        kinds = [
            describe(x.dtype, x.shape) if isinstance(x, Tensor) else "no tensor" for x in value
        ]
        return f"`{name}` holds {_listed(kinds)}."
    if isinstance(value, (tuple, list)) and value and isinstance(value[0], (str, Mapping)):
        return f"`{name}` holds {type(value[0]).__name__}: make one tensor of all samples first."
    if callable(value) and not isinstance(value, Tensor):
        return f"`{name}` can be called: pass what it returns."
    if isinstance(value, (int, float)) and not entry.tensor:
        return f"`{name}` needs one length for each sample."
    if isinstance(value, (int, float)) and entry.weight and name not in AT_CALL:
        return f"`{name}` needs one number for each class." if _per_class(entry) else ""
    return ""


def _per_class(entry: Input) -> bool:
    return not any(pattern.broadcast for pattern in entry.patterns)


def _listed(kinds: list[str]) -> str:
    most = 4
    return ", ".join(kinds[:most]) + (f" and {len(kinds) - most} more" if kinds[most:] else "")


def _conversion_fixes(
    inputs: tuple[Input, ...],
    named: Mapping[str, Any],
    wrong: list[str],
    callee: Callee,
    call: Call,
    trial: Trial,
) -> list[Fix]:
    """What makes tensors of arguments that are none, each tried."""
    first = inputs[0]
    offers = []
    for entry in inputs:
        if entry.name in wrong:
            size = ""
            data = named[first.name]
            if not entry.tensor and isinstance(data, Tensor) and data.dim() > 2:
                size = f"{{}} * {first.name}.shape[1]"  # a sequence, whose first axis is the time
                lengths = [named[each.name] for each in inputs if not each.tensor]
                if any(isinstance(each, Tensor) for each in lengths):
                    size = f"torch.tensor({size})"  # PyTorch takes two lists or two tensors
            output = entry is first and not entry.weight
            like = "" if output or entry.weight or not element_wise(first, entry) else first.name
            value = named[entry.name]
            offers.append(list(conversion_offers(entry.name, value, output, size, like)))
    if len(wrong) == 1:
        # An expression that another one makes needless is not offered besides.
        fixes = accepted_fixes(offers[0], callee, inputs, call, trial, 1)
        converted = [fix for fix in fixes if fix.startswith("torch.as_tensor")]
        needless = () if converted and converted[0].when else converted[1:]
        return [fix for fix in fixes if fix not in needless]
    for several in zip(*offers):
        edits = {name: offer.code for name, offer in zip(wrong, several)}
        code = whole_call(callee, "", inputs, call, edits)
        if is_accepted_fix(code, trial):
            return [Fix(code, several[0].when)]
    return []


def explain_value(
    callee: Callee,
    where: Where,
    broken: Broken,
    inputs: tuple[Input, ...],
    call: Call,
    trial: Trial,
    seen: ValueContext,
    target: str = "",
    ask: bool = True,
) -> SafeLossError:
    """The error for values that break a rule: the first of them, and what fixes all.

    `ask` says whether PyTorch may be asked what it does: it is not where it has run already.
    """
    name, axis, moved = where
    values: Tensor = trial.names[name]
    advice, fixes = "", []
    if target and not isinstance(broken.rule, NotNaN) and is_swapped(inputs, trial, target):
        rule, code = SWAPPED.format(inputs[0].name, target), codes.SWAPPED
        fixes = [swap_fix(callee, inputs, call, target)]
    else:
        rule, code = f"`{name}` {broken.rule}.", broken.rule.code
        wrong = values
        if broken.mask.dim():
            # Axes of size 1 do not change the order of the elements: this is the first violation.
            mask = (broken.mask.movedim(1, -1) if moved else broken.mask).reshape(values.shape)
            wrong = values[mask]
            index = mask.nonzero()[0].tolist()
            advice = f"First at {index}: {broken.rule.describe_violation(values, index, axis)}."
        numbers = broken.rule.numbers(name, values, wrong, seen)
        advice = " ".join(filter(None, [advice, numbers]))
        offers = [
            offer._replace(
                code=offer.code.replace("{0}", name), when=offer.when.replace("{0}", name)
            )
            for offer in broken.rule.offers(values, wrong, seen, axis)
        ]
        fixes = accepted_fixes(offers, callee, inputs, call, trial, axis)
    return ValueRangeError.about(
        callee.name,
        rule,
        code=code,
        arguments=table(inputs, call),
        native=_run_pytorch(callee, call, trial) if ask else "",
        advice=advice,
        fixes=tuple(fixes)[:_MOST_FIXES],
    )


def explain_construction(
    name: str, callee: str, signature: Any, data: Mapping[str, Any], kept: Mapping[str, Any]
) -> SafeLossError:
    """The error for a loss that was given data when it was made; `signature` is its `forward`'s,
    `kept` are the options beside them."""
    rows = [Argument(each, _describe_value(value), "") for each, value in data.items()]
    taken = [each for each in signature.inputs if each not in AT_CALL]
    taken += [f"{each}={each}" for each in AT_CALL if each in data]
    tensors = [each for each, value in kept.items() if isinstance(value, Tensor)]
    own = [f"{each}={each if each in tensors else repr(kept[each])}" for each in kept]
    return ArgumentTypeError.about(
        name,
        "the data was given to the constructor. Make the loss first, and then call it.",
        code=codes.DATA_IN_CONSTRUCTOR,
        arguments=tuple(rows),
        fixes=(f"{callee}({', '.join(own)})({', '.join(taken)})",),
    )


def explain_order(
    callee: Callee, inputs: tuple[Input, ...], call: Call, trial: Trial, target: str
) -> SafeLossError:
    """The error for scores and labels in the wrong order, where no number breaks a rule."""
    first = inputs[0].name
    return ValueRangeError.about(
        callee.name,
        SWAPPED.format(first, target),
        code=codes.SWAPPED,
        arguments=table(inputs, call),
        native=_run_pytorch(callee, call, trial),
        advice=f"`{first}` holds {listed(trial.names[first])}, and only `{target}` requires grad.",
        fixes=(swap_fix(callee, inputs, call, target),),
    )


def explain_dtypes(
    callee: Callee, arguments: tuple[Argument, ...], tensors: Mapping[str, Tensor], error: Exception
) -> SafeLossError | None:
    """Our error for a dtype that PyTorch has refused; None where it complains of something else."""
    sparse = [name for name, tensor in tensors.items() if tensor.layout is not torch.strided]
    odd = [name for name, tensor in tensors.items() if tensor.is_quantized or tensor.is_complex()]
    odd = odd or sparse
    if not odd or not _DTYPES.search(str(error)):
        return None
    name = odd[0]
    dtype = str(tensors[name].dtype).replace("torch.", "")
    if tensors[name].is_quantized:
        rule = f"`{name}` is {dtype} (quantized), and PyTorch has no {callee.native} for it."
        fixes: tuple[str, ...] = (f"{name}.dequantize()",) if len(odd) == 1 else ()
    elif name in sparse:
        rule = f"`{name}` is sparse, and PyTorch has no {callee.native} of sparse tensors."
        fixes = (f"{name}.to_dense()",) if len(odd) == 1 else ()
    else:
        rule = f"`{name}` is {dtype}, and PyTorch has no {callee.native} of complex numbers."
        fixes = ()
    native = f"{callee.native} raises {type(error).__name__}."
    return DTypeError.about(
        callee.name, rule, code=codes.DTYPE, arguments=arguments, native=native, fixes=fixes
    )


def is_about_arguments(error: Exception) -> bool:
    """Whether PyTorch raised `error` itself, and of a type that it raises about arguments."""
    return type(error) in _PLAIN and raised_by_torch(error)


def is_about_values(error: Exception) -> bool:
    """Whether PyTorch complains of numbers, so that our rules may say which and why."""
    return _VALUES.search(str(error)) is not None


def explain_devices(
    callee: Callee,
    arguments: tuple[Argument, ...],
    tensors: Mapping[str, Tensor],
    error: Exception,
) -> SafeLossError | None:
    """Our error for tensors on devices that PyTorch does not take together; None for others."""
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) < 2 or "device" not in str(error):
        return None
    rows = tuple(
        row._replace(came=f"{row.came} on {tensors[row.name].device}") for row in arguments
    )
    fixes: list[str] = []
    for name in reversed(list(tensors)):
        others = [other for other in tensors if other != name]
        if len({tensors[other].device for other in others}) == 1 and not fixes:
            fixes.append(f"{name}.to({others[0]}.device)")  # all others are on one device
    rule = "the tensors are on different devices."
    return DeviceError.about(callee.name, rule, code=codes.DEVICES, arguments=rows, fixes=fixes)


def add_note(callee: Callee, arguments: tuple[Argument, ...], error: Exception) -> None:
    """Say below the error of PyTorch what the loss was called with (since Python 3.11)."""
    add: Any = getattr(error, "add_note", None)
    if add is not None:
        came = ", ".join(f"{row.name} {row.came}" for row in arguments)
        add(f"{callee.name} was called with {came}.")


def one_line(inputs: tuple[Input, ...], call: Call, refusal: Refusal) -> str:
    """The refusal in one line, for a trace, inside of which no fix can be tried."""
    if refusal.error is OptionError:
        return refusal.rule
    rows = [f"{name} {came}, expected: {layout}" for name, came, layout in table(inputs, call)]
    return f"{refusal.rule} {refusal.advice} ({'; '.join(rows)})"


@constant_while_compiling
def rank_suffix() -> str:
    """The rank, for the end of a message inside a trace; empty where one process trains alone."""
    rank = current_rank()
    return "" if rank is None else f" Rank: {rank}."


def table(inputs: tuple[Input, ...], call: Call) -> tuple[Argument, ...]:
    """Every tensor of the call: what came, and what is declared for the rank of the first."""
    last = call.options.get("class_dim") == -1
    rows = []
    batched: bool | None = None
    for entry in inputs:
        if entry.name in call.shapes:
            shape = call.shapes[entry.name]
            patterns = entry.patterns_last if last else entry.patterns
            if batched is None:
                fitting = tuple(p for p in patterns if p.match(shape, {}) is not None)
                patterns = fitting or patterns
                batched = any(pattern.has("batch") for pattern in fitting)
            elif batched and not entry.weight:
                patterns = tuple(p for p in patterns if p.has("batch") or p.has_anonymous_axis)
            came = describe(call.dtypes[entry.name], shape)
            rows.append(Argument(entry.name, came, declared_text(patterns)))
    return tuple(rows)


def describe(dtype: torch.dtype, shape: Iterable[int]) -> str:
    """`float32 [32, 1]`."""
    # `f"{size}"` is what Dynamo can do with a symbolic size, in a typed head.
    return f"{str(dtype).replace('torch.', '')} [{', '.join([f'{size}' for size in shape])}]"


def _describe_value(value: Any) -> str:
    return describe(value.dtype, value.shape) if isinstance(value, Tensor) else type(value).__name__


def declared_text(patterns: tuple[Pattern, ...]) -> str:
    """`integer or bool [batch, *space], or floating [batch, classes, *space]`."""
    kinds: dict[str, list[Pattern]] = {}
    for pattern in patterns:
        kinds.setdefault(pattern.text, []).append(pattern)
    return ", or ".join([f"{dtypes_of(kinds[text])} {text}" for text in kinds])


def _run_pytorch(callee: Callee, call: Call, trial: Trial | None) -> str:
    """What PyTorch does with these arguments, found by running it; empty where it is not run.

    Without their numbers nothing is said but that shapes broadcast.
    """
    name = callee.native
    if not name or trial is None or any(callable(value) for value in call.options.values()):
        return ""
    if call.given:  # what PyTorch does not take
        return ""
    largest = max(math.prod(int(size) for size in shape) for shape in call.shapes.values())
    options = {key: value for key, value in call.options.items() if key not in OURS}
    if "reduction" in options:
        options["reduction"] = "none"
    arguments: Mapping[str, Any] = stand_ins(call, "meta")
    if trial.readable:
        arguments = {
            key: value.detach().clone() if isinstance(value, Tensor) else value
            for key, value in trial.names.items()
            if key in call.shapes or key not in options
        }
        tensors = [value for value in arguments.values() if isinstance(value, Tensor)]
        if largest > _SMALL or not all(tensor.is_cpu for tensor in tensors):
            return ""
    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        try:
            result = callee.kernel(**{**options, **arguments})
        except (*_PLAIN, AssertionError) as error:  # the name is all we say
            return f"{name} raises {type(error).__name__}." if trial.readable else ""
    if result.numel() > largest > 0:
        manner = "and warns" if said else "without a warning"
        return f"{name} broadcasts to [{', '.join(map(str, result.shape))}], {manner}."
    if not trial.readable:
        return ""
    return (
        f"{name} computes a loss, and warns."
        if said
        else f"{name} computes a loss, without a warning."
    )
