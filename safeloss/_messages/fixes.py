"""Fixes: Python source over the names of the arguments, tried before it is offered.

A fix is evaluated on the arguments, and offered only if the loss accepts the result, its numbers
included. Where the numbers cannot be read, it is tried on shapes and dtypes alone. No loss is run.
"""

import ast
import contextlib
import functools
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from safeloss._contract.labels import are_probabilities, are_scores, are_whole
from safeloss._contract.model import Call, Input, Offer, Refusal
from safeloss._contract.options import AT_CALL, OURS
from safeloss._contract.weights import mask_offers
from safeloss._messages.shapes import shape_offers, weight_offers
from safeloss._messages.syntax import parsed
from safeloss.errors import Fix

# What is raised by a fix that does not work: PyTorch's refusals, and options whose `repr` is no
# expression. Any other error is not about the fix: a signal handler may raise at any line.
REFUSALS = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(NameError, SyntaxError),
)


_NOTHING: Mapping[str, Any] = types.MappingProxyType({})


class Callee(NamedTuple):
    """What was called: its name for the message, and what a user writes to call it."""

    name: str  # "SafeCrossEntropyLoss", or that of the user's own subclass
    spelling: str  # "SafeCrossEntropyLoss" or "safeloss.functional.cross_entropy"
    module: bool
    kernel: Callable[..., Any]
    native: str  # the function of `torch.nn.functional` that it calls
    own: Any = None  # the callee itself, where it is somebody else's


class Trial(NamedTuple):
    """What fixes are tried with."""

    names: Mapping[str, Any]  # the arguments; stand-ins without numbers where those are unknown
    readable: bool  # whether the numbers are there
    # Whether the loss accepts the call with some arguments changed.
    accepts: Callable[[Mapping[str, Any]], bool]
    # Whether a loss accepts a call: a module or a function, and its arguments.
    enters: Callable[..., bool] | None = None


def by_layout(call: Call, accepts: Callable[[Call], bool]) -> Trial:
    """A trial by shapes and dtypes alone."""

    def changed(changes: Mapping[str, Any]) -> bool:
        tensors = {name: value for name, value in changes.items() if isinstance(value, Tensor)}
        options = {name: value for name, value in changes.items() if name not in tensors}
        return accepts(
            call._replace(
                shapes={**call.shapes, **{name: tuple(x.shape) for name, x in tensors.items()}},
                dtypes={**call.dtypes, **{name: x.dtype for name, x in tensors.items()}},
                options={**call.options, **options},
            )
        )

    return Trial(stand_ins(call, "meta"), False, changed)


def fixes_of(
    callee: Callee, inputs: tuple[Input, ...], call: Call, refusal: Refusal, trial: Trial
) -> list[Fix]:
    """The fixes of `refusal` that the loss accepts; else those that its shapes suggest."""
    offers: Iterable[Offer | str] = refusal.fixes
    if not offers:
        shapes = weight_offers if refusal.weight else shape_offers
        offers = shapes(inputs, call, refusal)
    axis = call.options.get("class_dim") or 1
    return accepted_fixes(offers, callee, inputs, call, trial, axis)


def accepted_fixes(
    offers: Iterable[Offer | str],
    callee: Callee,
    inputs: tuple[Input, ...],
    call: Call,
    trial: Trial,
    axis: int,
) -> list[Fix]:
    """The fixes among `offers` that the loss accepts, each once, with the options of the call."""
    fixes: dict[str, Fix] = {}
    for each in offers:
        offer = each if isinstance(each, Offer) else Offer(each)
        code = _complete_source(offer.code, callee, inputs, call, axis)
        if code is None or code in fixes or not _suits(offer.needs, trial, axis, default=True):
            continue
        if is_accepted_fix(code, trial, callee):
            sure = _suits(offer.sure, trial, axis, default=False)
            fixes[code] = Fix(code, "" if sure else offer.when)
    return list(fixes.values())


def _suits(check: Any, trial: Trial, axis: int, *, default: bool) -> bool:
    """Whether `check` holds of the numbers; `default` without a check or without numbers."""
    if check is None or not trial.readable:
        return default
    if any(isinstance(x, Tensor) and not x.numel() for x in trial.names.values()):
        return default  # no numbers tell nothing
    try:
        return bool(check(trial.names, axis))
    except REFUSALS:  # complex, float8, ...: nothing is known of them
        return False


def is_swapped(inputs: tuple[Input, ...], trial: Trial, target: str) -> bool:
    """Whether a call that is refused certainly has its first argument and its target swapped.

    The loss accepts them in the right order, the input holds labels, and the target scores.
    """
    scores, labels = trial.names.get(target), trial.names.get(inputs[0].name)
    if not (trial.readable and isinstance(scores, Tensor) and isinstance(labels, Tensor)):
        return False
    if labels.requires_grad or not scores.is_floating_point():
        return False
    try:
        whole = are_whole(labels) and (scores.requires_grad or are_scores(scores, -1))
        if not (whole or (scores.requires_grad and are_probabilities(labels, -1))):
            return False
        return trial.accepts({inputs[0].name: scores, target: labels})
    except REFUSALS:
        return False


def swap_fix(callee: Callee, inputs: tuple[Input, ...], call: Call, target: str) -> Fix:
    """The call with its first argument and its target in the right order."""
    first = inputs[0].name
    return Fix(whole_call(callee, "", inputs, call, {first: target, target: first}))


def whole_call(
    callee: Callee,
    option: str,
    inputs: tuple[Input, ...],
    call: Call,
    edits: Mapping[str, str] | None = None,
) -> Fix:
    """The call with `option` added, as a user would write it: its other options are kept.

    `edits` are the expressions that are given in the place of arguments.
    """
    edits = edits or {}
    added = _keywords(option)
    moved = [value for name, value in added.items() if name in AT_CALL]
    given = [entry for entry in inputs if entry.name in call.shapes or entry.name in edits]
    data = [edits.get(entry.name, entry.name) for entry in given if not entry.weight]
    weights = {
        entry.name: edits.get(entry.name, entry.name)
        for entry in given
        if entry.weight and entry.name not in moved
    }
    kept = {name: repr(value) for name, value in _non_default_options(callee, call).items()}
    keywords = {**weights, **kept, **added}
    at_call = {name: keywords.pop(name) for name in AT_CALL if name in keywords}
    own = [f"{name}={value}" for name, value in keywords.items()]
    together = [f"{name}={value}" for name, value in at_call.items()]
    first = [*filter(None, data)]
    if callee.module:
        return Fix(f"{callee.spelling}({', '.join(own)})({', '.join([*first, *together])})")
    return Fix(f"{callee.spelling}({', '.join([*first, *own, *together])})")


def _keywords(option: str) -> dict[str, str]:
    """The names and values of `option`, which is written as in a call."""
    source = f"_({option})"
    call: Any = parsed(source).body
    values = [str(ast.get_source_segment(source, keyword.value)) for keyword in call.keywords]
    return {str(keyword.arg): value for keyword, value in zip(call.keywords, values)}


def _non_default_options(callee: Callee, call: Call) -> dict[str, Any]:
    """The options of the call that are not at their default."""
    parameters = inspect.signature(callee.kernel).parameters
    legacy = ("size_average", "reduce")  # PyTorch's old spelling of `reduction`
    return {
        name: value
        for name, value in call.options.items()
        if name not in legacy
        and name in parameters
        and parameters[name].default is not inspect.Parameter.empty
        and not _same(value, parameters[name].default)
    }


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    alike = type(value) is type(default) or {type(value), type(default)} == {int, float}
    return alike and bool(value == default)


def is_accepted_fix(code: str, trial: Trial, callee: Callee | None = None) -> bool:
    """Whether the loss accepts what `code` makes of an argument, or the call that `code` is."""
    try:
        own = {} if callee is None or callee.own is None else {callee.spelling: callee.own}
        result = evaluate(code, trial.names, trial.enters or _accept_any, own)
        name = edited_argument(code, trial.names, own)
        return bool(result) if name is None else trial.accepts({name: result})
    except REFUSALS:  # it is no fix
        return False


def _accept_any(*arguments: Any, **options: Any) -> bool:
    """Accepts the call of another loss: without numbers nothing is known of it."""
    return True


def evaluate(
    fix: str,
    names: Mapping[str, Any],
    enters: Callable[..., Any] | None = None,
    own: Mapping[str, Any] = _NOTHING,
) -> Any:
    """What `fix` gives, read as a user would run it: with `safeloss` and `torch` imported.

    Where `enters` is given, a loss is not run, but `enters` is called with it and its arguments.
    `own` are losses that somebody else wrote, by name.
    """
    safeloss = sys.modules["safeloss"]
    # The text is ours, never the caller's: one of the expressions above or in a table.
    code = compile(fix, "<fix>", "eval")
    public = {name: getattr(safeloss, name) for name in code.co_names if name in safeloss.__all__}
    package: Any = safeloss
    if enters is not None:
        public = {
            name: _intercepted_constructor(loss, enters)
            if isinstance(loss, type)
            else functools.partial(enters, loss)
            for name, loss in {**public, **own}.items()
        }
        functions = {
            name: functools.partial(enters, getattr(safeloss.functional, name))
            for name in code.co_names
            if name in safeloss.functional.__all__
        }
        package = types.SimpleNamespace(
            functional=types.SimpleNamespace(**functions), align=safeloss.align
        )
    with warnings.catch_warnings(), contextlib.nullcontext() if enters is None else torch.no_grad():
        warnings.simplefilter("ignore")  # nobody asked for this call; it is not an error either
        return eval(code, {**public, "safeloss": package, "torch": torch, **names})


def _intercepted_constructor(loss: Any, enters: Callable[..., Any]) -> Callable[..., Any]:
    """The constructor of a loss, of which every call is given to `enters`."""
    return lambda *weights, **options: functools.partial(enters, loss(*weights, **options))


def edited_argument(
    fix: str, names: Iterable[str], own: Mapping[str, Any] = _NOTHING
) -> str | None:
    """The argument that `fix` edits, which it names first; None if it is a whole call."""
    tree = parsed(fix).body
    if isinstance(tree, ast.Call) and (_is_loss(tree.func) or _called_name(tree.func) in own):
        return None
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in names]
    used.sort(key=lambda node: (node.lineno, node.col_offset))
    return used[0].id if used else None


def _called_name(callee: ast.expr) -> str:
    """The name of what is called, which may be what a constructor gives."""
    return ast.unparse(callee.func if isinstance(callee, ast.Call) else callee)


def _is_loss(callee: ast.expr) -> bool:
    name = _called_name(callee)
    public = name in sys.modules["safeloss"].__all__
    return public or name.startswith("safeloss.functional.")


def _complete_source(
    code: str, callee: Callee, inputs: tuple[Input, ...], call: Call, axis: int
) -> str | None:
    """`code` with the options of the call; None if another loss has no such options."""
    code = code.replace("{axis}", str(axis)).replace("{loss}", "_loss_")
    tree: Any = parsed(code).body

    def words(nodes: list[Any]) -> list[str]:
        return [str(ast.get_source_segment(code, node)) for node in nodes]

    if isinstance(tree, ast.Call) and ast.unparse(tree.func) == "_loss_":
        aligned = [e.name for e in inputs if e.name in call.shapes and not e.weight]
        edits = dict(zip(aligned, words(tree.args)))
        if tree.args and isinstance(tree.args[0], ast.Starred):  # one expression for all of them
            edits = {**dict.fromkeys(aligned, ""), **edits}
        return str(whole_call(callee, ", ".join(words(tree.keywords)), inputs, call, edits))
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Call) and _is_loss(tree.func):
        kept = _options_for_other_loss(tree.func, callee, inputs, call)
        if kept is None:
            return None
        return f"{words([tree.func.func])[0]}({', '.join(kept)})({', '.join(words(tree.args))})"
    return code


def _options_for_other_loss(
    constructor: ast.Call, callee: Callee, inputs: tuple[Input, ...], call: Call
) -> list[str] | None:
    """The keyword arguments that give another loss the options of the call.

    None if it lacks one, or means another thing by it, as by a weight or `label_smoothing`.
    """
    other = getattr(sys.modules["safeloss"], ast.unparse(constructor.func))
    parameters = inspect.signature(other).parameters
    own = {str(keyword.arg): ast.unparse(keyword.value) for keyword in constructor.keywords}
    weights = [entry.name for entry in inputs if entry.weight and entry.name in call.shapes]
    same = other.forward.signature.native_name == callee.native
    if weights and not same:
        return None
    kept = {name: name for name in weights}
    for name, value in _non_default_options(callee, call).items():
        if name in parameters and (same or name in ("reduction", *OURS)):
            kept[name] = repr(value)
        elif name not in ("class_dim", "num_classes"):  # which only say how axes are read
            return None
    return [f"{name}={value}" for name, value in {**kept, **own}.items()]


def tensor_fields(value: Any) -> list[str]:
    """The attributes of an object, such as a dataclass of outputs, that are tensors."""
    if isinstance(value, torch.nn.Module):
        return []
    held: Mapping[str, Any] = getattr(value, "__dict__", {})
    return [field for field, each in held.items() if isinstance(each, Tensor)]


def conversion_offers(
    name: str, value: Any, tensor: bool, size: str, like: str = ""
) -> Iterator[Offer]:
    """What may make a tensor of `value`, which is none. `tensor` says that it is a model's output;
    `size` makes of a list of one length that of all samples, if it is of lengths; `like` is the
    argument whose shape a number may be repeated to."""
    if isinstance(value, Mapping):
        if list(value) == list(range(len(value))):
            yield Offer(f"torch.as_tensor(list({name}.values()))")
        for key in value:
            yield Offer(f"{name}[{key!r}]", f"`{name}[{key!r}]` is meant")
        return
    for field in tensor_fields(value):
        yield Offer(f"{name}.{field}", f"`{name}.{field}` is meant")
    if isinstance(value, (tuple, list)) and any(isinstance(each, Tensor) for each in value):
        fields = getattr(value, "_fields", None)
        for place, each in enumerate(value):
            if isinstance(each, Tensor) and each.dim():
                which = f"{name}.{fields[place]}" if fields else f"{name}[{place}]"
                yield Offer(which, f"`{which}` is meant")
        if not tensor:
            yield Offer(f"torch.stack({name})", f"each element of `{name}` is one sample")
        return
    if size and isinstance(value, int):
        yield Offer(size.format(f"[{name}]"), "all samples have this length")
        return  # one length is that of the batch only if that has one sample
    if like and isinstance(value, (int, float)):
        code = f"torch.as_tensor({name}).to({like}).expand_as({like})"
        yield Offer(code, f"all numbers of `{like}` have this target")
    for code in ("torch.as_tensor({0})", "torch.as_tensor({0}).float()"):
        yield Offer(code.format(name))
    with contextlib.suppress(*REFUSALS):  # it is no tensor
        if are_whole(torch.as_tensor(value)):
            yield Offer(f"torch.as_tensor({name}).long()")
    if name == "mask":  # of integers
        yield from mask_offers("torch.as_tensor(mask)")


def stand_ins(call: Call, device: str) -> dict[str, Tensor]:
    """Tensors of the same shapes and dtypes, all zeros."""
    made = {}
    for name, shape in call.shapes.items():
        with contextlib.suppress(*REFUSALS):  # no quantized ones on the meta device
            made[name] = torch.zeros(
                [int(size) for size in shape], dtype=call.dtypes[name], device=device
            )
    return made
