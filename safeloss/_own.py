"""`checked` for losses that people write themselves: their signature is read as ours are."""

import functools
import inspect
import linecache
import sys
import typing
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeVar, overload

from jaxtyping import AbstractArray
from torch import Tensor

from safeloss._contract import mistakes
from safeloss._contract.codes import TYPED
from safeloss._contract.model import Mistake
from safeloss._contract.options import CheckValues, ClassDim, Empty, Reduction
from safeloss._contract.patterns import Pattern, parse
from safeloss._contract.suspicions import NotProbabilities, NotSoftmax
from safeloss._contract.values import LogProbability
from safeloss._runtime import checked as _engine
from safeloss._runtime.codegen import written_parameters
from safeloss._runtime.reductions import mean_of
from safeloss.errors import LayoutError
from safeloss.layouts import Denominator, SampleMask, SampleWeights

_EMPTY = inspect.Parameter.empty
_Loss = TypeVar("_Loss", bound=Callable[..., Any])
Count = Callable[..., Tensor | None]

_WEIGHTS: Any = SampleWeights
_MASK: Any = SampleMask

# What a loss gets without asking for it, as keyword-only parameters: a hint and a default each.
ALWAYS: dict[str, tuple[Any, Any]] = {"check_values": (CheckValues, "first")}
IF_UNREDUCED: dict[str, tuple[Any, Any]] = {
    "reduction": (Reduction, "mean"),
    "empty": (Empty, "warn"),
    "sample_weight": (_WEIGHTS | None, None),
    "mask": (_MASK | None, None),
    "denominator": (Denominator | None, None),
}
IF_CLASSES_MAY_BE_LAST: dict[str, tuple[Any, Any]] = {"class_dim": (ClassDim, None)}


@overload
def checked(function: _Loss) -> _Loss: ...
@overload
def checked(*, count: Count | None = None, coupled: str = "") -> Callable[[_Loss], _Loss]: ...
def checked(function: Any = None, *, count: Count | None = None, coupled: str = "") -> Any:
    """Turn `function`, a loss whose signature is made of layouts, into a checked loss.

    Its first tensor says how large each axis is, and every other one must have the shape that its
    layout spells: axes of size 1 are aligned, and what would broadcast is refused. A layout is one
    of `safeloss.layouts` or a hint of jaxtyping; parameters may have any name.

    The return annotation is the shape of the unreduced loss, and then the loss takes, by keyword,
    `reduction`, `empty`, `check_values`, `sample_weight`, `mask` and `denominator`, which the body
    does not get. `Float[Tensor, ""]` is a loss that the body has reduced itself, which takes
    only `check_values`. `count` computes what the mean counts for each unreduced number, where that
    is not 1: a function of some of the parameters, by their names. `coupled` names a bool
    parameter: where it is true, the samples are computed together, and weights and masks are
    refused.

    Raises:
        TypeError: a hint that is no layout, or a `count` of something else than the parameters,
            at decoration; the message says how to write it.

    >>> import torch
    >>> from jaxtyping import Float
    >>> from safeloss import layouts
    >>> @checked
    ... def squares(pred: layouts.Predictions, y: layouts.Targets) -> Float[Tensor, "*shape"]:
    ...     return (pred - y) ** 2
    >>> squares(torch.zeros(8, 1), torch.ones(8))
    tensor(1.)
    >>> squares(torch.zeros(8, 1), torch.ones(8), reduction="none").shape
    torch.Size([8, 1])
    """
    if function is None:
        names = sys._getframe(1).f_locals
        return functools.partial(_checked, count=count, coupled=coupled, names=names)
    return _checked(function, count=count, coupled=coupled, names=sys._getframe(1).f_locals)


def _checked(function: Any, *, count: Count | None, coupled: str, names: Mapping[str, Any]) -> Any:
    if not isinstance(function, FunctionType):
        raise TypeError(
            f"checked: {function!r} is no function; for a module or a callable object write "
            "`safeloss.wrap(loss, input=..., target=...)`."
        )
    declared = declaration(function, names)
    verify_declaration(function.__name__, declared)
    unreduced = parse(declared.return_annotation)
    body_reduces = not any(pattern.dims for pattern in unreduced)
    if coupled and coupled not in declared.parameters:
        raise TypeError(f"{function.__name__}: it has no parameter {coupled!r}, as `coupled` says.")
    if count is not None:
        _verify_count(function.__name__, declared, count)
    return build_checked(
        function, declared, _added_parameters(declared, body_reduces=body_reduces), count, coupled
    )


def _verify_count(name: str, declared: inspect.Signature, count: Count) -> None:
    for parameter in inspect.signature(count).parameters.values():
        plain = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if not plain or parameter.name not in declared.parameters:
            has = ", ".join(declared.parameters)
            raise TypeError(
                f"{name}: `count` takes '{parameter}'; it must take parameters of the loss, by "
                f"their names and without `*`: some of {has}."
            )


def build_checked(
    body: FunctionType,
    declared: inspect.Signature,
    added: Mapping[str, tuple[Any, Any]],
    count: Count | None = None,
    coupled: str = "",
) -> Any:
    """The checked loss with the parameters of `declared` and, by keyword, those of `added`."""
    name = body.__name__
    reduces = "reduction" in added
    kernel: Any = _with_reduction(body, declared, count) if reduces else _copy(body)
    kernel.__signature__ = _with_parameters(declared, added)
    kernel.__doc__ = body.__doc__
    kernel.unreduced = body if reduces and count is None else None
    kernel.added = tuple(each for each in added if each != "reduction")
    # The shape is not known if the body takes `reduction` itself, or has no return hint (`wrap`).
    known = "reduction" not in declared.parameters and declared.return_annotation is not _EMPTY
    kernel.verifying = (
        functools.partial(_with_shape_check, name, body, reduces, count)
        if known
        else lambda _: kernel
    )
    engine = _engine.checked(mistakes=_mistakes(declared), counts=count, coupled=coupled)
    function: Any = engine(kernel)
    kernel.checked, kernel.body = function, body
    function.__qualname__, function.__module__ = body.__qualname__, body.__module__
    return function


def declaration(function: Any, names: Mapping[str, Any]) -> inspect.Signature:
    """The signature of `function`, with hints that are strings resolved.

    `names` are the local variables of the place where it is decorated.
    """
    try:
        return inspect.signature(function, locals=dict(names), eval_str=True)
    except NameError as error:
        raise TypeError(
            f"{function.__name__}: a hint cannot be resolved, since {error}; a layout must be "
            "imported before the function that has it in its signature."
        ) from None


def verify_declaration(name: str, declared: inspect.Signature) -> None:
    """Raise TypeError for a signature that `checked` cannot read; it says how to write it."""
    layouts = []
    for parameter in declared.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{name}: `{parameter}` cannot be checked; name each parameter.")
        if parameter.name in (*ALWAYS, *IF_UNREDUCED, *IF_CLASSES_MAY_BE_LAST) and (
            parameter.name != "reduction"
        ):
            raise TypeError(
                f"{name}: safeloss gives a loss its `{parameter.name}` itself, at each call. "
                "Leave the parameter out, or call it otherwise."
            )
        if parameter.name.startswith("_"):
            raise TypeError(f"{name}: `{parameter.name}` may not begin with an underscore.")
        unknown = parameter.annotation is parameter.empty is parameter.default
        if _is_layout(parameter.annotation) or _is_array_hint(parameter.annotation) or unknown:
            layouts.append(parameter)
    verify_layouts(name, layouts)
    if not layouts or layouts[0].default is not inspect.Parameter.empty:
        raise TypeError(
            f"{name}: the first tensor says how large each axis is, so it needs a layout and no "
            f"default. {_HOW.format('input')}"
        )
    returned = declared.return_annotation
    if not _is_layout(returned) or not all(_is_layout(each) for each in _members(returned)):
        raise TypeError(f"{name}: {_hint_problem(returned)} {_HOW_RETURN}")
    known = {dim.name for p in layouts for pattern in parse(p.annotation) for dim in pattern.dims}
    for pattern in parse(returned):
        for dim in pattern.dims:
            if not dim.name or dim.name not in known:
                raise TypeError(
                    f"{name}: no tensor has the axis of `-> {pattern.text}` that is called "
                    f"{dim.name or dim.size or '_'!r}. {_HOW_RETURN}"
                )


def verify_layouts(name: str, parameters: list[inspect.Parameter]) -> None:
    """Refuse a parameter whose hint is no layout."""
    for parameter in parameters:
        if not _is_layout(parameter.annotation):
            raise TypeError(f"{name}: {_hint_problem(parameter)} {_HOW.format(parameter.name)}")


_HOW = (
    "Take a layout for what its numbers mean, such as `{0}: layouts.Scores` (from safeloss import "
    'layouts), or write its axes: `{0}: Float[Tensor, "batch classes"]` (from jaxtyping import '
    "Float)."
)
_HOW_RETURN = (
    'Write the shape of the unreduced loss, such as `-> Float[Tensor, "*shape"]` or '
    '`-> Float[Tensor, " batch"]`, or `-> Float[Tensor, ""]` where the body takes the mean itself '
    "(from jaxtyping import Float)."
)


def _hint_problem(declared: Any) -> str:
    of = "the result" if not isinstance(declared, inspect.Parameter) else f"`{declared.name}`"
    hint = getattr(declared, "annotation", declared)
    if hint is inspect.Parameter.empty:
        return f"{of} has no hint."
    return f"the hint of {of} is {inspect.formatannotation(hint)}, which is no layout."


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union but None; any other hint is its own."""
    if typing.get_origin(hint) is typing.Annotated or not typing.get_args(hint):
        return (hint,)
    return tuple(member for member in typing.get_args(hint) if member is not type(None))


def _is_layout(hint: Any) -> bool:
    patterns = parse(hint)
    return bool(patterns) and all(
        isinstance(p.hint, type) and issubclass(typing.cast(Any, p.hint).array_type, Tensor)
        for p in patterns
    )


def _is_array_hint(hint: Any) -> bool:
    """Whether a hint that is no layout stands for an array."""
    if isinstance(hint, type):
        return issubclass(hint, (Tensor, AbstractArray))
    if typing.get_origin(hint) is Callable:
        return False
    return any(_is_array_hint(member) for member in typing.get_args(hint))


def _added_parameters(
    declared: inspect.Signature, *, body_reduces: bool
) -> dict[str, tuple[Any, Any]]:
    """What the loss is given besides its own parameters."""
    added = dict(ALWAYS) if body_reduces else {**ALWAYS, **IF_UNREDUCED}
    patterns = [parse(p.annotation) for p in declared.parameters.values()]
    first, *others = [each for each in patterns if each]
    classes = any(p.has("classes") and any(dim.variadic for dim in p.dims) for p in first)
    lacking = any(not p.has("classes") for each in others for p in each)
    if (classes and lacking) or any(p.broadcast for each in others for p in each):
        added |= IF_CLASSES_MAY_BE_LAST
    return {name: added[name] for name in added if name not in declared.parameters}


def _with_parameters(
    declared: inspect.Signature, added: Mapping[str, tuple[Any, Any]]
) -> inspect.Signature:
    more = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in added.items()
    ]
    return declared.replace(parameters=[*declared.parameters.values(), *more])


def _copy(body: FunctionType) -> FunctionType:
    """A copy of `body`, so that attributes set on it do not appear on the user's function."""
    copy = FunctionType(
        body.__code__, body.__globals__, body.__name__, body.__defaults__, body.__closure__
    )
    copy.__kwdefaults__, copy.__module__ = body.__kwdefaults__, body.__module__
    return copy


_REDUCING = """\
def {name}({parameters}, reduction):
    _loss = _body({arguments})
    if reduction == "mean":
        return {mean}
    return _loss.sum() if reduction == "sum" else _loss
"""


def _with_reduction(body: FunctionType, declared: inspect.Signature, count: Count | None) -> Any:
    """`body` and then a reduction, as torch's functions have it."""
    parameters = [*declared.parameters.values()]
    arguments = ", ".join(
        f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name for p in parameters
    )
    keywords = any(p.kind is p.KEYWORD_ONLY for p in parameters)
    mean = "_loss.mean()"
    if count is not None:
        asked = ", ".join(f"{name}={name}" for name in inspect.signature(count).parameters)
        mean = f"_mean_of(_loss, _count({asked}))"
    scope: dict[str, Any] = {"_body": body, "_mean_of": mean_of, "_count": count}
    scope["_defaults"] = {p.name: p.default for p in parameters}
    source = _REDUCING.format(
        name=body.__name__,
        parameters=written_parameters(parameters) + ("" if keywords else ", *"),
        arguments=arguments,
        mean=mean,
    )
    filename = f"<safeloss {body.__module__}.{body.__qualname__}>"
    exec(compile(source, filename, "exec"), scope)  # our own template, and the user's names
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    kernel = scope[body.__name__]
    kernel.__module__ = body.__module__
    return kernel


def _with_shape_check(
    name: str,
    body: Any,
    reduces: bool,
    count: Count | None,
    expected_shape: tuple[int, ...],
) -> Any:
    """The kernel for the first call of a form: it also checks the shape that the body returns."""

    def kernel(*arguments: Any, **options: Any) -> Any:
        reduction = options.pop("reduction", "mean") if reduces else "none"
        loss = body(*arguments, **options)
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        if shape != expected_shape:
            came = list(shape) if isinstance(shape, tuple) else shape
            rule = (
                f"the body returns {came}, and the signature says {list(expected_shape)}: "
                "inside the body something broadcasts, or is reduced."
            )
            raise LayoutError.about(name, rule, code=TYPED)
        if reduction == "mean":
            asked = {} if count is None else inspect.signature(count).parameters
            bound = inspect.signature(body).bind(*arguments, **options)
            bound.apply_defaults()
            given = {each: bound.arguments[each] for each in asked}
            return mean_of(loss, None if count is None else count(**given))
        return loss.sum() if reduction == "sum" else loss

    return kernel


def _mistakes(declared: inspect.Signature) -> tuple[Mistake, ...]:
    """The known mistakes of the loss of PyTorch whose first tensor means the same, if this loss has
    their options."""
    tensors = [p for p in declared.parameters.values() if parse(p.annotation)]
    required = [p for p in tensors if p.default is p.empty]
    if len(required) < 2:
        return ()
    first, target = parse(required[0].annotation), parse(required[1].annotation)
    rows: tuple[Mistake, ...] = ()
    if any(p.reads == "AS_INDICES" for p in target):
        if _has_rule(first, NotSoftmax):
            rows = mistakes.CROSS_ENTROPY
        elif _has_rule(first, LogProbability):
            rows = mistakes.NLL
        else:
            rows = mistakes.MULTI_MARGIN
    elif _has_rule(first, NotSoftmax):
        rows = (mistakes.ONE_CLASS, mistakes.SOFTMAX_OVER_THE_BATCH, mistakes.ONE_HOT)
    elif any(p.reads == "AS_LABELS" for p in target) and _has_rule(first, NotProbabilities):
        labels = all(p.text == "[batch, classes]" for p in first)
        rows = mistakes.MULTI_LABEL if labels else mistakes.LOGITS
    asked = [row for row in rows if _has_options_of(row, declared)]
    return mistakes.in_names(tuple(asked), required[0].name, required[1].name)


def _has_rule(patterns: tuple[Pattern, ...], rule: type) -> bool:
    return any(isinstance(each, rule) for pattern in patterns for each in pattern.rules)


def _has_options_of(row: Mistake, declared: inspect.Signature) -> bool:
    """Whether the loss has the options that the mistake is about."""
    options = [each[0] for each in (row.option, row.given) if each is not None]
    return all(option in declared.parameters for option in options)
