"""The two faces of a kernel, written out: a function, and the `forward` of a module.

They are generated from the kernel's signature, as a dataclass' `__init__` is from its fields:
the hot path is one look-up, and whatever is generic (`*args`, one more frame) costs more than it.
"""

import inspect
import linecache
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import has_torch_function_variadic

from safeloss._contract.options import OURS
from safeloss._runtime.compiled import traced_call
from safeloss._runtime.signature import Sources
from safeloss._runtime.size_oracle import consultation

# Only the look-up is guarded: the signature may be new, sizes may be symbolic, an argument may be
# no tensor. PyTorch is entered once, and what it raises is explained or leaves as it is.
_TEMPLATE = """\
def key_of({parameters_of_kernel}):
    return ({key_of_arguments},)


def make({names}):
    def {name}({parameters}):
        {held}
        if is_dynamo_compiling():
            return traced_call(shown, consult, kernel, total, {given})
        key = None
        try:
            {prepare}
            key = {key}
            plan = {plan}
        except (KeyError, AttributeError, TypeError):
            plan = {first}
        try:
            if plan is not UNKNOWN:
                try:
                    {native}
                except Exception as error:
                    explain_native_error(signature, sources, {given}, error)
                    raise
            return new_call(signature, sources, key_of, {given}, key)
        except SafeLossError as refusal:
            end_at_the_call(refusal)
            raise
    return {name}
"""


def function(signature: Any, names: Mapping[str, Any]) -> Any:
    """The face with the kernel's own parameters."""
    parameters = inspect.signature(signature.kernel)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters]
    arguments = {name: name for name in signature.names}
    sources = Sources(tuple((place, "") for place, _ in enumerate(arguments, 1)))
    return _write(
        signature,
        sources,
        {**names, "memory": signature.memory},
        parameters,
        signature.kernel.__name__,
        parameters=str(inspect.Signature(bare))[1:-1],
        held="pass",
        given=f"(None, {', '.join(arguments)})",
        prepare="pass",
        plan="memory.plans[key]",
        first="UNKNOWN",
        key=signature.key_source(arguments),
        native=_native(signature, "None", arguments),
    )


def forward(signature: Any, attributes: Mapping[str, str], names: Mapping[str, Any]) -> Any:
    """The face with the required parameters; the rest are `attributes` of the module.

    `attributes` also renames a required one that torch's module calls otherwise. One that begins
    with "self" is what the module holds although the kernel requires it, or the module itself.
    """
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    weights = {entry.name for entry in signature.reader.inputs if entry.weight}
    held = {name: source for name, source in attributes.items() if source.startswith("self")}
    given: dict[str, inspect.Parameter] = {}
    each: list[tuple[int, str] | None] = []
    arguments, prepare = {}, ["state = self.__dict__"]
    for parameter in signature.parameters:
        name, attribute = parameter.name, attributes.get(parameter.name)
        arguments[name] = name
        if attribute is None:  # the legacy `size_average` and `reduce`
            arguments[name] = "None"
            each.append(None)
        elif name in held:
            each.append((1 + list(held).index(name), ""))
        elif parameter.default is parameter.empty:
            given[name] = parameter.replace(name=attribute)
            arguments[name] = attribute
            each.append((len(held) + len(given), ""))
        else:
            if name in [taken.name for taken in given.values()]:  # Poisson's `log_input`
                arguments[name] = f"own_{name}"
            prepare.append(f"{arguments[name]} = {_held(parameter, attribute, name in weights)}")
            each.append((0, attribute))
    own = [parameter.name for parameter in given.values()]
    written = _write(
        signature,
        Sources(tuple(each)),
        names,
        inspect.Signature(
            [this, *given.values()],
            return_annotation=inspect.signature(signature.kernel).return_annotation,
        ),
        "forward",
        parameters=", ".join(["self", *own]),
        held="; ".join(f"{name} = {source}" for name, source in held.items()) or "pass",
        given=f"({', '.join(['self', *held, *own])})",
        prepare="; ".join(prepare),
        plan="state['_memory'].plans[key]",
        first="inherited(signature, self, key)",
        key=signature.key_source(arguments),
        native=_native(signature, "self", arguments),
    )
    written.inputs = tuple(given)  # the parameters of the kernel that it takes
    return written


def _held(parameter: inspect.Parameter, attribute: str, weight: bool) -> str:
    """Where a module keeps what the kernel takes.

    `self.margin` would look through the classes first, and `self.weight` then call `__getattr__`.
    """
    if weight:
        return f"state['_buffers']['{attribute}']"
    hints = (parameter.annotation, *typing.get_args(parameter.annotation))
    called = any(typing.get_origin(hint) is Callable for hint in hints)
    return f"self.{attribute}" if called else f"state['{attribute}']"  # it may be a module


def _native(signature: Any, owner: str, arguments: Mapping[str, str]) -> str:
    """What a hit runs: the plan if there is one, or else the kernel, or its operator alone."""
    planned = f"plan({owner}, ({', '.join(arguments.values())},))"
    given = ", ".join(
        f"{p.name}={arguments[p.name]}" if p.kind is p.KEYWORD_ONLY else arguments[p.name]
        for p in signature.parameters
        if p.name not in OURS
    )
    if signature.operator is None:
        return f"return kernel({given}) if plan is None else {planned}"
    taken = [signature.names[place] for place in signature.taken if place >= 0]
    watched = ", ".join(arguments[name] for name in taken if name in signature.tensors)
    at = {**dict(enumerate(arguments.values())), signature.reduction: "plan", -1: "None"}
    operands = ", ".join(at[place] for place in signature.taken)
    return f"""if plan.__class__ is Plan:
                        return {planned}
                    if plan is None or has_torch_function({watched}):
                        return kernel({given})
                    return operator({operands})"""


def _write(
    signature: Any,
    sources: Sources,
    names: Mapping[str, Any],
    seen_as: inspect.Signature,
    name: str,
    **fields: str,
) -> Any:
    module = name == "forward"
    shown, consult = consultation(signature, sources)
    # What a compiler traces is closed over: it would look for a global in the module, to guard on
    # it. All else is global: of a loss that is built inside the compiled function, the compiler
    # wraps whatever is closed over.
    traced = {
        "is_dynamo_compiling": is_dynamo_compiling,
        "traced_call": traced_call,
        "shown": shown,
        "consult": consult,
        "kernel": signature.kernel,
        "total": signature.total,
    }
    scope: dict[str, Any] = {
        **names,
        "__name__": __name__,
        "signature": signature,
        "sources": sources,
        "operator": signature.operator,
        "has_torch_function": has_torch_function_variadic,
        "F": F,  # of PyTorch's own source, which TorchScript compiles instead
        "Tensor": Tensor,
    }
    lacking = [n for n, found in zip(signature.names, sources.each) if found is None]
    own = {n: "None" if n in lacking else n for n in signature.names}
    source = _TEMPLATE.format(
        name=name,
        names=", ".join(traced),
        parameters_of_kernel=", ".join(own),
        key_of_arguments=signature.key_source(own),
        **fields,
    )
    filename = f"<safeloss {signature.kernel.__name__} {name}>"
    exec(compile(source, filename, "exec"), scope)  # our own text, from our own signatures
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    written = scope["make"](**traced)
    written.key = scope["key_of"]
    written.__module__ = signature.kernel.__module__
    written.__qualname__ = name
    doc = str(signature.kernel.__doc__)
    written.__doc__ = doc.partition(">>>")[0].rstrip() if module else doc  # examples of functions
    written.__signature__ = seen_as
    written.__annotations__ = {
        parameter.name: parameter.annotation
        for parameter in seen_as.parameters.values()
        if parameter.annotation is not parameter.empty
    }
    return written
