"""A signature becomes a check.

`@checked` reads a kernel's signature once, at import. From then on a call takes one of three ways:
one whose signature was seen before is a look-up (`_faces`), a new one is read, verified by
beartype and remembered (`_planning`), and inside a compiler (`_symbolic`) the same reading asks how
sizes compare.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from safeloss import _faces
from safeloss._explaining import explain_type
from safeloss._module import memory_of
from safeloss._planning import Plan, explain_native_error, new_call
from safeloss._signature import LEGACY, Total, signature_of, validate
from safeloss._verifying import ours

_Kernel = TypeVar("_Kernel", bound=Callable[..., Tensor])

_LONG_WAYS = {
    "new_call": new_call,
    "explain_native_error": explain_native_error,
    "Plan": Plan,
}


@overload
def checked(kernel: _Kernel) -> _Kernel: ...
@overload
def checked(
    *, total: Total | None = None, undefined_if_empty: bool = False
) -> Callable[[_Kernel], _Kernel]: ...
def checked(
    kernel: Any = None, *, total: Total | None = None, undefined_if_empty: bool = False
) -> Any:
    """`kernel` with its signature as a check: the same name, parameters and docstring.

    The return annotation is the shape of `reduction="none"`. `total` computes the divisor of the
    mean where that depends on values, and `undefined_if_empty` says that PyTorch returns
    uninitialised memory for a mean over zero elements.
    """
    if kernel is None:
        return functools.partial(checked, total=total, undefined_if_empty=undefined_if_empty)
    signature = signature_of(kernel, total, undefined_if_empty)
    function = _faces.function(signature, _LONG_WAYS)
    function.signature = signature
    return function


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
        inputs = ours(module).forward.signature.reader.inputs
        declared = tuple(entry for entry in inputs if entry.name in weights)
        raise explain_type(type(module).__name__, declared, weights, wrong)


def prepare(module: Any, **options: Any) -> None:
    """Give a module its own options, which torch's constructor does not take, and a memory."""
    for option, value in options.items():
        setattr(module, option, value)
    if is_dynamo_compiling():  # there the call itself looks at the options
        return
    choices = ours(module).forward.signature.choices
    chosen = {name: getattr(module, name) for name, _ in choices}  # a subclass may compute them
    validate(type(module).__name__, choices, chosen, True)
    memory_of(module)
