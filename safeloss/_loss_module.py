"""`LossModule`: a checked loss as a module, whose options are fields of its class."""

import inspect
import typing
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from safeloss._contract.options import AT_CALL, CheckValues, ClassDim, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare
from safeloss._runtime.module import SafeModule, explained

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """Do nothing: it speaks to type checkers only."""
        return lambda cls: cls


@dataclass_transform(kw_only_default=True)
class _Fields:
    """Makes fields of what the classes below it annotate: `LossModule` among them."""


class LossModule(_Fields, SafeModule, nn.Module):
    """The base of modules for a checked loss of your own.

    `class Focal(safeloss.LossModule, kernel=focal)` calls `focal`, which `safeloss.checked` has
    decorated. Its fields are options of `focal`, with the same names and defaults: they are
    keyword-only arguments of the constructor, attributes, and part of `repr` and of pickles. A
    field that is a tensor is a buffer. Every such module also has the options `reduction`, `empty`
    and `check_values`, and `class_dim` where the classes may be the last axis. A subclass inherits
    the kernel.

    Raises:
        TypeError: a class whose field the kernel lacks, or has with another default.

    >>> from safeloss._extra.focal import sigmoid_focal_loss
    >>> class Focal(LossModule, kernel=sigmoid_focal_loss):
    ...     gamma: float = 2.0
    >>> Focal(gamma=3.0)
    Focal(gamma=3.0)
    """

    if TYPE_CHECKING:
        reduction: Reduction = "mean"
        empty: Empty = "warn"
        check_values: CheckValues = "first"
        class_dim: ClassDim = None

    _kernel: ClassVar[Any] = None
    _fields: ClassVar[tuple[str, ...]] = ()  # those of the class and of those that it extends
    _accepted: ClassVar[tuple[str, ...]] = ()  # by the constructor: the fields, and our options
    _defaults: ClassVar[dict[str, Any]] = {}  # of all that the kernel has, but for its inputs
    _tensors: ClassVar[tuple[str, ...]] = ()  # parameters of the kernel that are

    def __init_subclass__(cls, kernel: Any = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        kernel = cls._kernel if kernel is None else kernel
        if getattr(kernel, "signature", None) is None:
            raise TypeError(
                f"{cls.__name__}: give the loss that it calls, decorated with safeloss.checked: "
                f"`class {cls.__name__}(safeloss.LossModule, kernel=my_loss)`."
            )
        declared = inspect.signature(kernel).parameters
        hints = inspect.get_annotations(cls)
        own = [name for name, hint in hints.items() if _is_field(hint)]
        # TorchScript reads them, and knows neither layouts nor strings.
        cls.__annotations__ = {name: hint for name, hint in hints.items() if name not in own}
        for name in own:
            _verify_field(cls, name, declared, kernel.__name__)
        cls._fields = tuple(dict.fromkeys([*cls._fields, *own]))
        if kernel is not cls._kernel or own:
            cls._kernel, cls._ours = kernel, cls
            cls.forward = _forward(cls, kernel)
        added = [name for name in kernel.signature.kernel.added if name not in AT_CALL]
        accepted = [name for name in declared if name in (*cls._fields, *added, "reduction")]
        defaults = {
            name: parameter.default
            for name, parameter in declared.items()
            if parameter.default is not parameter.empty and name not in AT_CALL
        }
        defaults |= {name: cls._defaults[name] for name in accepted if name in cls._defaults}
        for name in accepted:
            if name in vars(cls) and not isinstance(vars(cls)[name], property):
                # A class attribute would be found before a buffer of its name.
                defaults[name] = vars(cls)[name]
                delattr(cls, name)
        cls._tensors = tuple(entry.name for entry in kernel.signature.reader.inputs)
        cls._defaults, cls._accepted = defaults, tuple(accepted)
        cls._own_options = {n: value for n, value in defaults.items() if n not in cls._tensors}
        cls._other_defaults = {}
        cls.__signature__ = inspect.Signature(
            [
                declared[name].replace(
                    kind=inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name, inspect.Parameter.empty),
                )
                for name in accepted
            ]
        )

    @explained
    def __init__(self, **options: Any) -> None:
        super().__init__()
        kind = type(self)
        for name in options:
            if name not in kind._accepted:
                known = ", ".join(kind._accepted)
                raise TypeError(f"{kind.__name__}: there is no option {name!r}, only {known}.")
        given = {**kind._defaults, **options}
        missing = [name for name in kind._accepted if name not in given]
        if missing:
            raise TypeError(f"{kind.__name__}: `{missing[0]}` is required.")
        plain = {}
        for name, value in given.items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            elif isinstance(value, Tensor) or (name in kind._tensors and value is None):
                self.register_buffer(name, value)
            elif isinstance(value, nn.Module):
                self.add_module(name, value)
            else:
                plain[name] = value
        prepare(self, **plain)

    def extra_repr(self) -> str:
        """The fields that are no tensors, and those of our options that are not as usual."""
        shown = [
            name
            for name in self._accepted
            if name not in self._tensors
            and not isinstance(getattr(self, name), (Tensor, nn.Module))
            and (name in self._fields or getattr(self, name) != self._own_options.get(name))
        ]
        return ", ".join([f"{name}={getattr(self, name)!r}" for name in shown])


def _is_field(hint: Any) -> bool:
    if isinstance(hint, str):
        return not hint.startswith(("ClassVar", "typing.ClassVar"))
    return hint is not ClassVar and typing.get_origin(hint) is not ClassVar


def _verify_field(cls: type, name: str, declared: Any, kernel: str) -> None:
    """Refuse a field that the kernel does not have as it is."""
    if name in AT_CALL:
        raise TypeError(f"{cls.__name__}: `{name}` is given with each call, so it is no field.")
    if name not in declared:
        known = ", ".join(each for each in declared if each not in AT_CALL)
        raise TypeError(f"{cls.__name__}: `{kernel}` has no parameter {name!r}, only {known}.")
    default = declared[name].default
    own = getattr(cls, name, inspect.Parameter.empty) if name in vars(cls) else default
    same = own is default or (type(own) is type(default) and bool(own == default))
    if not same or (name not in vars(cls) and default is not inspect.Parameter.empty):
        wanted = "no default" if default is inspect.Parameter.empty else f"{default!r}"
        came = f"{own!r}" if name in vars(cls) else "no default"
        raise TypeError(
            f"{cls.__name__}: the default of `{name}` is {came}, and {wanted} in `{kernel}`."
        )


def _forward(cls: Any, kernel: Any) -> Any:
    """The method, which takes of the kernel what is no field and has no default."""
    signature, renamed = kernel.signature, dict[str, str | None]()
    weights = [entry.name for entry in signature.reader.inputs if entry.weight]
    for parameter in signature.parameters:
        name = parameter.name
        if name in cls._fields and parameter.default is inspect.Parameter.empty:
            renamed[name] = f"self.{name}"
        elif name in weights and name not in (*cls._fields, *AT_CALL):
            renamed[name] = None
    forward = forward_of(kernel, **renamed)
    forward.__qualname__, forward.__module__ = f"{cls.__qualname__}.forward", cls.__module__
    # A module that holds the loss can be scripted; there the loss itself cannot be called.
    return torch.jit.unused(forward)
