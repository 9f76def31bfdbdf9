"""The two functions that are generated from a kernel: the one that users call, and a `forward`.

They are written from the kernel's signature, as a dataclass' `__init__` is from its fields: a hit
is one look-up, and whatever is generic (`*args`, one more frame) costs more than it.
"""

import inspect
import linecache
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.overrides import has_torch_function_variadic

from safeloss._contract.model import Kind, Parameter
from safeloss._contract.options import AT_CALL, documented
from safeloss._contract.patterns import bare
from safeloss._runtime.compiled import traced_call
from safeloss._runtime.signature import Signature
from safeloss._runtime.size_oracle import consult_for

# Only the look-up is guarded: the signature may be new, sizes may be symbolic, an argument may be
# no tensor. PyTorch is entered once, and what it raises is explained or leaves as it is. Names of
# ours begin with an underscore: the parameters may have any other.
_TEMPLATE = """\
def _key_of({kernel_parameters}):
    _key = {kernel_key}
    {at_call}
    return _key


def {gathered}:
    return {arguments}


def _make({closed_over}):
    def {name}({parameters}):
        {held}
        if _is_dynamo_compiling():
            _positions = {positions}
            _arguments = {arguments}
            return _traced_call(
                _consult, "{loss}", _kernel, _counting, _positions, {owner}, _arguments
            )
        _key = None
        try:
            {prepare}
            _key = {key}
            {at_call}
            _plan = {plan}
        except (KeyError, AttributeError, TypeError):
            _plan = _UNKNOWN
        try:
            {inherit}
            if _plan is not _UNKNOWN:
                try:
                    {native}
                except Exception as _error:
                    _explain_native_error(_signature, {owner}, {gathered}, _error)
                    raise
            return _new_call(_signature, _attributes, _key_of, {owner}, {gathered}, _key)
        except _SafeLossError as _refusal:
            _end_at_the_call(_refusal)
            raise

    return {name}
"""


def function(signature: Signature, names: Mapping[str, Any]) -> Any:
    """The function with the kernel's own parameters."""
    declared = inspect.signature(signature.kernel)
    own = {name: name for name in signature.names}
    written = _generated(
        signature,
        declared,
        signature.kernel.__name__,
        {**_globals_of(signature.native), **names, "_memory": signature.memory, "_attributes": ()},
        parameters=written_parameters(declared.parameters.values()),
        held="",
        owner="None",
        arguments=_tuple(own.values()),
        gathered=f"_arguments_of({', '.join(own)})",
        prepare="",
        plan="_memory.plans[_key]",
        inherit="",
        key=_tuple(signature.key_parts(own)),
        native=_run_source(signature, "None", own),
    )
    if signature.native is not None:
        written.__wrapped__ = signature.native  # which TorchScript compiles instead
    return written


def _globals_of(native: Any) -> dict[str, Any]:
    """The globals that the source of PyTorch's function refers to, for TorchScript."""
    code = getattr(native, "__code__", None)
    names = () if code is None else code.co_names
    return {name: native.__globals__[name] for name in names if name in native.__globals__}


def forward(signature: Signature, attributes: Mapping[str, str], names: Mapping[str, Any]) -> Any:
    """The method with the required parameters; the rest are `attributes` of the module.

    `attributes` also renames a required one that torch's module calls otherwise. One that begins
    with "self" is what the module holds although the kernel requires it, or the module itself.
    """
    given = {"self": inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)}
    weights = [entry.name for entry in signature.reader.inputs if entry.weight]
    declared = inspect.signature(signature.kernel)
    held: list[str] = []
    prepare = ["_state = self.__dict__"]
    local: dict[str, str] = {}  # the source of each argument in a hit
    anywhere: dict[str, str] = {}  # ... and one that works however the module keeps it
    for name, parameter in declared.parameters.items():
        attribute = attributes.get(name)
        if attribute is None:  # the legacy `size_average` and `reduce`
            local[name] = anywhere[name] = "None"
        elif attribute.startswith("self"):
            local[name] = anywhere[name] = name
            held.append(f"{name} = {attribute}")
        elif name in AT_CALL or parameter.default is parameter.empty:
            local[name] = anywhere[name] = attribute
            given[name] = parameter.replace(name=attribute)
        else:
            taken = [other.name for other in given.values()]  # Poisson's `log_input`
            local[name] = f"own_{name}" if name in taken else name
            anywhere[name] = f"self.{attribute}"
            kept = _attribute_source(parameter, attribute, name in weights)
            prepare.append(f"{local[name]} = {kept}")
    kernels = {name: "None" if source == "None" else name for name, source in local.items()}
    own = [source for source in anywhere.values() if source.isidentifier() and source != "None"]
    written = _generated(
        signature,
        inspect.Signature([*given.values()], return_annotation=declared.return_annotation),
        "forward",
        {**names, "_attributes": tuple(attributes.values())},
        parameters=written_parameters(given.values()),
        held="\n".join(held),
        owner="self",
        arguments=_tuple(anywhere.values()),
        gathered=f"_arguments_of({', '.join(['self', *own])})",
        prepare="\n".join(prepare),
        plan="_state['_memory'].plans[_key]",
        inherit="if _plan is _UNKNOWN:\n    _plan = _inherited(_signature, self, _key)",
        key=_tuple(signature.key_parts(local)),
        native=_run_source(signature, "self", local),
        kernel_key=_tuple(signature.key_parts(kernels)),
    )
    written.inputs = tuple(given)[1:]  # the parameters of the kernel that it takes
    return written


def _attribute_source(parameter: inspect.Parameter, attribute: str, weight: bool) -> str:
    """The source that reads an option of the kernel from the module.

    `self.margin` would look through the classes first, and `self.weight` then call `__getattr__`.
    """
    if weight:
        return f"_state['_buffers']['{attribute}']"
    hints = (parameter.annotation, *typing.get_args(parameter.annotation))
    called = any(typing.get_origin(hint) is Callable for hint in hints)
    return f"self.{attribute}" if called else f"_state['{attribute}']"  # it may be a module


def _run_source(signature: Signature, owner: str, arguments: Mapping[str, str]) -> str:
    """The source of a hit: the operator alone, the kernel, or the closure of its plan."""
    native = [parameter for parameter in signature.parameters if parameter.native]
    given = _given(native, arguments)
    lines = [
        "if _plan is None:",
        *(f"    {line}" for line in _kernel_source(signature, arguments, given)),
        f"_arguments = {_tuple(arguments.values())}",
        f"return _plan({owner}, _arguments)",
    ]
    if signature.operator is None:
        return "\n".join(lines)
    at = [*arguments.values(), "None"]
    at[signature.order.reduction] = "_plan"  # torch's number of the reduction
    operands = ", ".join(at[position] for position in signature.operands)
    tensors = signature.positions(Kind.TENSOR)
    watched = ", ".join(at[i] for i in signature.operands if i in tensors)
    return "\n".join(
        [
            "if _plan.__class__ is int:",
            f"    if _has_torch_function({watched}):",
            f"        return _kernel({given})",
            f"    return _operator({operands})",
            *lines,
        ]
    )


def _kernel_source(signature: Signature, arguments: Mapping[str, str], given: str) -> list[str]:
    """The source that calls the kernel; a loss of one's own is written out, without a call."""
    if signature.body is None:
        return [f"return _kernel({given})"]
    taken = [p for p in signature.parameters if p.native and p.name != "reduction"]
    reduction = arguments["reduction"]
    return [
        f"_loss = _body({_given(taken, arguments)})",
        f"if {reduction} == 'mean':",
        "    return _loss.mean()",
        f"return _loss.sum() if {reduction} == 'sum' else _loss",
    ]


def _given(parameters: Iterable[Parameter], arguments: Mapping[str, str]) -> str:
    """The arguments of a call."""
    return ", ".join(
        f"{p.name}={arguments[p.name]}" if p.keyword_only else arguments[p.name] for p in parameters
    )


def _generated(
    signature: Signature,
    declared: inspect.Signature,
    name: str,
    names: Mapping[str, Any],
    **blocks: str,
) -> Any:
    """The function of the template, with `blocks` filled in and `names` to refer to."""
    # What Dynamo traces is closed over: it would guard on globals. All else is global: Dynamo wraps
    # whatever a loss closes over that is built inside the compiled function.
    traced = {
        "_is_dynamo_compiling": is_dynamo_compiling,
        "_traced_call": traced_call,
        "_consult": consult_for(signature),
        "_kernel": signature.kernel,
        "_counting": signature.counting,
    }
    scope: dict[str, Any] = {
        **names,
        "__name__": signature.kernel.__module__,
        "_signature": signature,
        "_body": signature.body,
        "_operator": None if signature.operator is None else signature.operator.call,
        "_has_torch_function": has_torch_function_variadic,
        "F": F,  # of PyTorch's own source, which TorchScript compiles instead
        "Tensor": Tensor,
        "_defaults": {p.name: p.default for p in declared.parameters.values()},
    }
    own = {name: name for name in signature.names}
    positions = [signature.positions(kind) for kind in (Kind.INTEGER, Kind.CHOICE, Kind.TENSOR)]
    fields = {
        "name": name,
        "loss": signature.name,
        "closed_over": ", ".join(traced),
        "kernel_parameters": ", ".join(own),
        "kernel_key": _tuple(signature.key_parts(own)),
        "at_call": _at_call_source(signature),
        "positions": str(tuple(positions)),
        **blocks,
    }
    source = "".join(_filled(line, fields) for line in _TEMPLATE.splitlines())
    filename = _unused_filename(f"<safeloss {signature.kernel.__name__} {name}>")
    exec(compile(source, filename, "exec"), scope)  # our own text, from our own signatures
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    written = scope["_make"](**traced)
    written.key = scope["_key_of"]
    written.__qualname__ = name
    doc = documented(signature.kernel.__doc__, declared.parameters, not signature.unweighted)
    if doc is not None and name == "forward":
        doc = doc.partition(">>>")[0].rstrip()  # the examples are of functions
    written.__doc__ = doc
    written.__signature__ = _public_signature(declared)
    written.__annotations__ = {
        parameter.name: parameter.annotation
        for parameter in written.__signature__.parameters.values()
        if parameter.annotation is not parameter.empty
    }
    written.__annotations__["return"] = declared.return_annotation
    return written


def _unused_filename(filename: str) -> str:
    """`filename`, with a number where another function of its name was written before."""
    numbered, count = filename, 1
    while numbered in linecache.cache:
        count += 1
        numbered = f"{filename[:-1]} {count}>"
    return numbered


def _public_signature(declared: inspect.Signature) -> inspect.Signature:
    """A signature for users: with the tensors that layouts stand for, and not their rules."""
    parameters = [
        parameter.replace(annotation=bare(parameter.annotation))
        for parameter in declared.parameters.values()
    ]
    return declared.replace(parameters=parameters)


def _at_call_source(signature: Signature) -> str:
    """The longer key of a call that is given weights, a mask or a count."""
    parts = signature.key_parts_at_call()
    if not parts:
        return ""
    return f"if not ({' is '.join(AT_CALL)} is None):\n    _key = {_tuple(['*_key', *parts])}"


def _filled(line: str, fields: Mapping[str, str]) -> str:
    """A line of the template, or the lines of its blocks; none for a block that is empty."""
    indent = line[: len(line) - len(line.lstrip())]
    lines = line.strip().format(**fields).splitlines()
    return "".join(f"{indent}{each}\n" for each in lines) if line else "\n"


def written_parameters(parameters: Iterable[inspect.Parameter]) -> str:
    """A list of parameters with their defaults, as in a `def` line."""
    bare = [
        parameter.replace(annotation=parameter.empty, default=_written_default(parameter))
        for parameter in parameters
    ]
    return str(inspect.Signature(bare))[1:-1]


class _Source:
    """Source code that is written as it is, where `inspect` writes the `repr` of a value."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _written_default(parameter: inspect.Parameter) -> Any:
    """The default as source code: a `repr` is none for most objects, nor for infinity."""
    default = parameter.default
    plain = default is parameter.empty or isinstance(default, (bool, int, str, type(None)))
    if plain or (isinstance(default, float) and math.isfinite(default)):
        return default
    return _Source(f"_defaults[{parameter.name!r}]")


def _tuple(parts: Iterable[str]) -> str:
    """A tuple: on one line where it is short, else one part a line."""
    listed = [*parts]
    if len(listed) > 1 and len(", ".join(listed)) < 60:
        return f"({', '.join(listed)})"
    return "\n".join(["(", *(f"    {part}," for part in listed), ")"])
