"""A signature becomes a check: bind, align, verify, remember.

`@checked` reads a kernel's signature once, at import. From then on a call takes one of three ways:
one whose signature was seen before is a look-up (`_faces`), a new one is read, verified by
beartype and remembered (`new_call`), and inside a compiler the same reading runs on symbolic
sizes (`traced_call`).
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import jaxtyped
from torch import Tensor
from torch.fx import Proxy
from torch.overrides import has_torch_function

from safeloss import _faces
from safeloss._call import Call, Memory, Reading, Refusal, settle
from safeloss._explaining import (
    Where,
    brief,
    explain,
    explain_failure,
    explain_type,
    explain_value,
    table,
)
from safeloss._frames import warn
from safeloss._matching import is_bearable
from safeloss._repairs import Face
from safeloss._signature import (
    LEGACY,
    Kernel,
    Named,
    Signature,
    Total,
    averaged,
    signature_of,
    validate,
    validate_integers,
)
from safeloss._torch import outside_compiler, readable, transformed, unobserved
from safeloss._trace import with_history
from safeloss._values import Rule, Seen, first_broken, suspicions
from safeloss.errors import ArgumentTypeError, LayoutError, SafeLossError

_Kernel = TypeVar("_Kernel", bound=Callable[..., Tensor])

MOST_PLANS = 1024  # signatures that one loss remembers; past that it begins anew


class Plan(NamedTuple):
    """What a call of a known signature needs besides the kernel."""

    signature: Signature
    reading: Reading
    zero: str
    values: bool  # read them on every call
    number: int | None  # torch's, of the reduction, where the operator alone will do
    steps: tuple[tuple[int, Callable[[Tensor], Tensor]], ...]  # views and casts, by position

    def __call__(self, owner: Any, arguments: tuple[Any, ...]) -> Tensor:
        signature = self.signature
        if not (self.values or self.zero or signature.by_name):  # the short way: views, casts
            moved = list(arguments)
            for position, step in self.steps:
                moved[position] = step(moved[position])
            operator = signature.operator
            if operator is not None and self.number is not None and not has_torch_function(moved):
                return operator(*[moved[i] for i in signature.taken], self.number)
            return signature.kernel(*[moved[i] for i in signature.slots])
        named = dict(zip(signature.names, arguments))
        if self.values:
            with unobserved() as traced:
                if not traced:
                    _verify_values(signature, owner, self.reading, named)
        edited = signature.edited(self.reading, named)
        given, by_name = signature.given(self.zero, edited)
        loss = signature.kernel(*given, **by_name)
        return averaged(loss, signature.total, self.zero, edited) if self.zero else loss


# At import ---------------------------------------------------------------------------------------


def checked(kernel: _Kernel) -> _Kernel:
    """`kernel` with its signature as a check: the same name, parameters and docstring."""
    function: _Kernel = _checked(kernel, None)
    return function


def checked_mean(total: Total) -> Callable[[_Kernel], _Kernel]:
    """`checked` for a kernel whose mean divides by `total` of its arguments, which are values."""

    def decorate(kernel: _Kernel) -> _Kernel:
        checked: _Kernel = _checked(kernel, total)
        return checked

    return decorate


def forward_of(function: Any, **renamed: str | None) -> Any:
    """`forward` for a module: what the kernel requires; the rest are attributes of the module.

    Attributes have the names of the parameters, as torch's do; `renamed` gives what torch's module
    calls otherwise, an attribute or a required parameter, and by None what it lacks. What it
    holds although the kernel requires it is given as an expression, which begins with "self".
    """
    signature = function.signature
    names = {name: name for name in signature.names}
    attributes = {
        name: attribute
        for name, attribute in {**names, **renamed}.items()
        if attribute is not None and name not in LEGACY
    }
    forward = _faces.forward(signature, attributes, _LONG_WAYS)
    forward.signature = signature
    return forward


def verify_weights(module: Any, **weights: Any) -> None:
    """Tensors, or None: said before torch's constructor fails on anything else."""
    wrong = [name for name, value in weights.items() if not isinstance(value, Tensor | None)]
    if wrong:
        inputs = module.forward.signature.reader.inputs
        declared = tuple(entry for entry in inputs if entry.name in weights)
        raise explain_type(type(module).__name__, declared, weights, wrong)


def prepare(module: Any, **options: Any) -> None:
    """Give a module its own options, which torch's constructor does not take, and a memory."""
    signature, name = module.forward.signature, type(module).__name__
    validate(name, signature.choices, {**vars(module), **options}, True)
    for option, value in options.items():
        setattr(module, option, value)
    module._memory = Memory()


def _checked(kernel: Any, total: Total | None) -> Any:
    signature = signature_of(kernel, total)
    function = _faces.function(signature, _LONG_WAYS)
    function.signature = signature
    return function


# Inside a compiler -------------------------------------------------------------------------------


def traced_call(
    constant: Callable[[], Signature],
    kernel: Kernel,
    total: Total | None,
    owner: Any,
    arguments: tuple[Any, ...],
) -> Tensor:
    """The call on symbolic sizes: the same reading, which a compiler turns into guards."""
    signature = constant()
    name = signature.name if owner is None else type(owner).__name__
    memory = None if owner is None else owner._memory
    # `dict(zip(...))` would have Dynamo guard on what it makes of it.
    named = {parameter: value for parameter, value in zip(signature.names, arguments)}  # noqa: C416  # see above
    for entry in signature.reader.inputs:
        if entry.tensor and not entry.weight and not isinstance(named[entry.name], Tensor):
            raise ArgumentTypeError(f"{name}: `{entry.name}` must be a tensor.")
    call = signature.call(memory, named)
    validate(name, signature.choices, call.options, owner is not None)
    reading = signature.reader.read(call)
    if isinstance(reading, Refusal):
        raise reading.error(brief(name, signature.reader.inputs, call, reading))
    zero = signature.zero(reading, call)
    if isinstance(zero, Refusal):
        raise zero.error(brief(name, signature.reader.inputs, call, zero))
    if reading.settles and memory is not None:
        settle(memory.key)
    named = signature.edited(reading, named)
    given, by_name = signature.given(zero, named)
    # Where the kernel breaks the graph, nothing that only a trace knows is needed afterwards.
    loss = kernel(*given, **by_name)
    return averaged(loss, total, zero, named) if zero else loss


# The long way ------------------------------------------------------------------------------------


@outside_compiler
def new_call(signature: Signature, owner: Any, arguments: tuple[Any, ...], key: Any) -> Tensor:
    """A call of a signature that was not seen before, or that native refused.

    `key` is what its face looks it up by; None where there is none.
    """
    if any(isinstance(argument, Proxy) for argument in arguments):
        return _recorded(signature, owner, arguments)
    try:
        with unobserved() as traced:
            plan = _plan(signature, owner, arguments, key, traced)
    except SafeLossError as refusal:
        raise _told(refusal, signature, arguments) from None
    try:
        return plan(owner, arguments)
    except Exception as error:  # whatever native raises, and only what is about arguments is ours
        with unobserved() as traced:
            explained = None if traced else _explained(signature, owner, plan, arguments, error)
        if explained is None:
            raise
        raise _told(explained, signature, arguments) from None


def _told(
    refusal: SafeLossError, signature: Signature, arguments: tuple[Any, ...]
) -> SafeLossError:
    """`refusal` as the user gets it: with histories, and ending where the loss was called."""
    told = with_history(refusal, dict(zip(signature.names, arguments)))
    return told.with_traceback(None)


def _plan(
    signature: Signature, owner: Any, arguments: tuple[Any, ...], key: Any, traced: bool
) -> Plan:
    """What the call needs, verified, and remembered where it means the same the next time."""
    name = _name(signature, owner)
    memory = signature.memory if owner is None else owner._memory
    named = dict(zip(signature.names, arguments))
    _verify_types(signature, name, named)
    call = signature.call(None if owner is None else memory, named)
    validate(name, signature.choices, call.options, owner is not None)
    validate_integers(name, signature, call.options)
    reading = signature.reader.read(call)
    if isinstance(reading, Refusal):
        raise _refused(signature, owner, call, reading)
    zero = signature.zero(reading, call)
    if isinstance(zero, Refusal):
        raise _refused(signature, owner, call, zero)
    symbolic = any(isinstance(size, torch.SymInt) for s in call.shapes.values() for size in s)
    if not symbolic:
        _verify_hints(signature, owner, call, reading, signature.edited(reading, named))
    for text in signature.reader.warnings(call):
        warn(f"{name}: {text}")

    always = call.options.get("check_values") == "always"
    unread = call.options.get("check_values") == "first" and memory.unread
    if unread and not traced and _verify_values(signature, owner, reading, named):
        memory.unread = unread = False
    if reading.settles and owner is not None:
        memory.settled = True
    steps = tuple(
        (signature.names.index(name), step)
        for name, edit in reading.edits.items()
        for step in edit.steps(call.shapes[name])
    )
    number = None if zero or always else signature.number(call)
    plan = Plan(signature, reading, zero, always, number, steps)
    if not (key is None or unread or symbolic or transformed()):
        if len(memory.plans) >= MOST_PLANS:
            memory.plans.clear()
        plain = not (reading.edits or zero or always)
        with contextlib.suppress(TypeError):  # an option without a hash: read on every call
            memory.plans[key] = number if plain else plan
    return plan


def _name(signature: Signature, owner: Any) -> str:
    return signature.name if owner is None else type(owner).__name__


def _verify_types(signature: Signature, name: str, named: Named) -> None:
    """Tensors where tensors are declared."""
    wrong = [
        entry.name
        for entry in signature.reader.inputs
        if not isinstance(named[entry.name], Tensor)
        and not (entry.weight and named[entry.name] is None)
        and not is_bearable(named[entry.name], entry.hint)
    ]
    if wrong:
        raise explain_type(name, signature.reader.inputs, named, wrong)


def _verify_hints(
    signature: Signature, owner: Any, call: Call, reading: Reading, named: Named
) -> None:
    """beartype's word on what native is about to get: the hints as they stand in the signature."""
    inputs = signature.reader.inputs
    with jaxtyped("context"):
        for entry in inputs:
            tensor = named[entry.name]
            if isinstance(tensor, Tensor):
                pattern = reading.patterns[entry.name]
                if pattern.broadcast:
                    tensor = tensor.expand(call.shapes[inputs[0].name])
                # A cast makes of a bool layout a real one, which the hint declares as well.
                hint = entry.hint if entry.name in reading.edits else pattern.hint
                if not is_bearable(tensor, hint):
                    refusal = Refusal(LayoutError, f"`{entry.name}` is not as declared.")
                    raise _refused(signature, owner, call, refusal)


def _verify_values(signature: Signature, owner: Any, reading: Reading, named: Named) -> bool:
    """Whether the numbers could be read; the first rule that they break is raised."""
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if not readable(tensors.values()):
        return False
    call = signature.call(None, named)
    seen = Seen(signature.edited(reading, named), call.options, reading.axes)
    with torch.no_grad():
        for argument, pattern in reading.patterns.items():
            values = seen.arguments[argument]
            try:
                broken = first_broken(values, pattern.rules, seen)
                doubts = [] if broken else suspicions(values, pattern.rules, seen)
            except (NotImplementedError, RuntimeError):
                continue  # sparse, float8, ...: torch cannot compare or reduce what they hold
            if broken is not None:
                rank = tensors[argument].dim()
                moved = argument in reading.edits and reading.edits[argument].classes_to_second
                where = Where(argument, rank - 1 if moved else pattern.class_axis(rank), moved)
                mends = _mends(signature, named, argument, broken.rule)
                inputs = signature.reader.inputs
                face = _face(signature, owner)
                raise explain_value(face, where, broken, inputs, call, tensors, mends)
            for doubt in doubts:
                warn(f"{_name(signature, owner)}: `{argument}` {doubt}.")
    return True


def _mends(
    signature: Signature, named: Named, argument: str, rule: Rule
) -> Callable[[Named], bool]:
    """Whether with some arguments changed the call is accepted and `rule` holds."""

    def mends(changes: Named) -> bool:
        changed = {**named, **changes}
        call = signature.call(None, changed)
        reading = signature.reader.read(call)
        if isinstance(reading, Refusal):
            return False
        seen = Seen(signature.edited(reading, changed), call.options, reading.axes)
        return first_broken(seen.arguments[argument], (rule,), seen) is None

    return mends


def _refused(signature: Signature, owner: Any, call: Call, refusal: Refusal) -> SafeLossError:
    def accepts(other: Call) -> bool:
        return isinstance(signature.reader.read(other), Reading)

    inputs = signature.reader.inputs
    return explain(_face(signature, owner), inputs, call, refusal, accepts)


def _face(signature: Signature, owner: Any) -> Face:
    if owner is None:
        callee = f"safeloss.functional.{signature.name}"
        return Face(signature.name, callee, False, signature.kernel)
    # The class that a user can name: theirs may be a subclass.
    ours = next(kind for kind in type(owner).__mro__ if kind.__module__.startswith("safeloss."))
    return Face(type(owner).__name__, ours.__name__, True, signature.kernel)


def _explained(
    signature: Signature,
    owner: Any,
    plan: Plan,
    arguments: tuple[Any, ...],
    error: Exception,
) -> SafeLossError | None:
    """Our error for what native refused; None for what is not about the arguments."""
    if isinstance(error, SafeLossError):
        return error
    named = dict(zip(signature.names, arguments))
    try:
        _verify_values(signature, owner, plan.reading, named)
    except SafeLossError as broken:
        return broken
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    rows = table(signature.reader.inputs, signature.call(None, named))
    return explain_failure(_face(signature, owner), rows, tensors, error)


def _recorded(signature: Signature, owner: Any, arguments: tuple[Any, ...]) -> Any:
    """`torch.fx` traces into what is not torch's: be a leaf, as native is, and keep the check."""
    proxies = [argument for argument in arguments if isinstance(argument, Proxy)]
    tracer: Any = proxies[0].tracer
    if owner is not None and owner is not tracer.root:
        path = tracer.path_of_module(owner)
        named = dict(zip(signature.names, arguments))
        inputs = tuple(named[name] for name in owner.forward.inputs)
        return tracer.create_proxy("call_module", path, inputs, {})
    required = len([p for p in signature.parameters if p.default is p.empty])
    options = {
        # "first" is the modules' alone; a proxy cannot be compared.
        p.name: "never" if isinstance(value, str) and value == "first" else value
        for p, value in zip(signature.parameters[required:], arguments[required:])
        if value is not p.default
    }
    function = getattr(sys.modules[signature.kernel.__module__], signature.kernel.__name__)
    return tracer.create_proxy("call_function", function, arguments[:required], options)


_LONG_WAYS = {"new_call": new_call, "traced_call": traced_call, "Plan": Plan}
