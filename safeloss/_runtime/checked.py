"""A signature becomes a check.

`@checked` reads a kernel's signature once, at import. From then on a call takes one of three ways:
one whose signature was seen before is a look-up (`codegen`), a new one is decided, verified by
beartype and remembered (`eager`), and inside a compiler (`compiled`) the same decision asks how
sizes compare.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from safeloss._contract import codes
from safeloss._contract.contract import LEGACY
from safeloss._contract.model import Call, Mistake
from safeloss._contract.options import option_error_text
from safeloss._messages.call_site import in_users_names
from safeloss._messages.explain import explain_type
from safeloss._messages.fixes import Trial
from safeloss._messages.stack import end_at_the_call
from safeloss._runtime import codegen
from safeloss._runtime.eager import new_call
from safeloss._runtime.evidence import inherited_plan
from safeloss._runtime.memory import UNKNOWN, Memory
from safeloss._runtime.native_errors import explain_native_error
from safeloss._runtime.operators import Operator
from safeloss._runtime.refusals import callee_of, could_be
from safeloss._runtime.signature import signature_of
from safeloss.errors import OptionError, SafeLossError

_Kernel = TypeVar("_Kernel", bound=Callable[..., Tensor])

_SLOW_PATHS = {
    "_new_call": new_call,
    "_explain_native_error": explain_native_error,
    "_inherited": inherited_plan,
    "_SafeLossError": SafeLossError,
    "_end_at_the_call": end_at_the_call,
    "_UNKNOWN": UNKNOWN,
}


@overload
def checked(kernel: _Kernel) -> _Kernel: ...
@overload
def checked(
    *,
    native: Callable[..., Any] | None = None,
    operator: Operator | None = None,
    mistakes: tuple[Mistake, ...] = (),
    counts: Callable[..., Tensor | None] | None = None,
    lengths: Callable[..., Tensor] | None = None,
    undefined_if_empty: bool = False,
    mean_over: str = "",
    unweighted: str = "",
    coupled: str = "",
) -> Callable[[_Kernel], _Kernel]: ...
def checked(
    kernel: Any = None,
    *,
    native: Callable[..., Any] | None = None,
    operator: Operator | None = None,
    mistakes: tuple[Mistake, ...] = (),
    counts: Callable[..., Tensor | None] | None = None,
    lengths: Callable[..., Tensor] | None = None,
    undefined_if_empty: bool = False,
    mean_over: str = "",
    unweighted: str = "",
    coupled: str = "",
) -> Any:
    """`kernel` with its signature as a check: the same name, parameters and docstring.

    The return annotation is the shape of `reduction="none"`. `native` is the function of torch that
    the kernel calls, and `operator` what that ends in, if it is a single one. `mistakes` are
    refused by name. `counts` computes what PyTorch's mean counts for each unreduced number, where
    that is not 1, and `lengths` what it divides each one by before; both take parameters of the
    kernel by their names. `undefined_if_empty` says that PyTorch returns uninitialised memory for a
    mean over nothing. `mean_over` is the axis that each number of `reduction="none"` is already a
    mean over. `unweighted` is the reason why neither weights nor a mask have a meaning, and
    `coupled` an option that, where it is true, is a reason.
    """
    if kernel is None:
        return functools.partial(
            checked,
            native=native,
            operator=operator,
            mistakes=mistakes,
            counts=counts,
            lengths=lengths,
            undefined_if_empty=undefined_if_empty,
            mean_over=mean_over,
            unweighted=unweighted,
            coupled=coupled,
        )
    signature = signature_of(
        kernel,
        native,
        operator,
        mistakes,
        counts,
        lengths,
        undefined_if_empty,
        mean_over,
        unweighted,
        coupled,
    )
    function = codegen.function(signature, _SLOW_PATHS)
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
    forward = codegen.forward(signature, attributes, _SLOW_PATHS)
    forward.signature = signature
    return forward


def verify_weights(module: Any, **weights: Any) -> None:
    """Tensors, or None: said before torch's constructor fails on anything else."""
    for value in weights.values():
        if not (value is None or isinstance(value, Tensor)):
            break
    else:
        return
    wrong = [name for name, value in weights.items() if not isinstance(value, Tensor | None)]
    signature = module.forward.signature
    declared = {entry.name: entry for entry in signature.reader.inputs if entry.name in weights}

    def accepts(changes: Mapping[str, Any]) -> bool:
        """Whether a weight may have this shape and dtype; the sizes are known at the call."""
        return all(could_be(declared[name], value) for name, value in changes.items())

    callee, trial = callee_of(signature, module), Trial(weights, True, accepts)
    entries = tuple(declared.values())
    refusal = explain_type(callee.name, entries, weights, wrong, callee, Call({}, {}, {}), trial)
    raise in_users_names(refusal, weights)


def verify_fraction(module: Any, **options: float) -> None:
    """Numbers from 0 to 1."""
    for name, value in options.items():
        if not 0 <= value <= 1:
            rule = f"{name} must be between 0 and 1; it is {value!r}."
            raise OptionError.about(type(module).__name__, rule, code=codes.OPTION)


def prepare(module: Any, **options: Any) -> None:
    """Give a module its own options, which torch's constructor does not take, and a memory."""
    if is_dynamo_compiling():  # there the call itself looks at the options
        for option, value in options.items():
            setattr(module, option, value)
        return
    state = module.__dict__  # Module.__setattr__ takes longer, and these are no tensors
    state.update(options, _memory=Memory())
    signature = module._safeloss_class.forward.signature
    # By attribute, since a subclass may compute them.
    values = signature.chosen_of(module)
    kinds: tuple[Any, ...] = ()
    try:
        if values in signature.valid:
            return
        kinds = (*values, *map(type, values))  # since True is 1
        if kinds in signature.valid:
            return
    except TypeError:  # an option without a hash is none of the choices
        pass
    misfit = option_error_text(
        [parameter for parameter in signature.parameters if parameter.choices],
        dict(zip(signature.options_with_choices, values)),
    )
    if misfit:
        raise OptionError.about(type(module).__name__, misfit, code=codes.OPTION)
    plain = all([value is None or value.__class__ is str for value in values])
    signature.valid.add(values if plain else kinds)
