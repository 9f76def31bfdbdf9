"""What every module of ours adds to PyTorch's: options with defaults, and what it has learnt."""

import functools
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from torch import Tensor

from safeloss._contract.options import AT_CALL, OURS, CheckValues, Empty, documented
from safeloss._messages.call_site import name_arguments
from safeloss._messages.explain import explain_construction
from safeloss._messages.stack import end_at_the_call
from safeloss._runtime.evidence import memory_of
from safeloss._runtime.memory import Memory
from safeloss.errors import SafeLossError


class AtCall(TypedDict, total=False):
    """What a loss takes by keyword with its inputs, for type checkers."""

    sample_weight: Tensor | None
    mask: Tensor | None
    denominator: Tensor | float | None


class SignatureOfCall:
    """`inspect.signature(loss)` of a module, for notebooks and editors: what it is called with.

    A descriptor, since that of the class is its constructor's. (`nn.Module.__call__` takes
    anything, and a method that takes less is one more call for each loss.)
    """

    def __init__(self, constructor: inspect.Signature | None = None) -> None:
        self.constructor = constructor  # where that cannot be read from `__init__`

    def __get__(self, module: Any, owner: type) -> inspect.Signature:
        if module is None and self.constructor is not None:
            return self.constructor
        if module is None:
            raise AttributeError("__signature__")
        return inspect.signature(module.forward)


class SafeModule:
    """The base, beside PyTorch's own class, of every safe loss.

    Options are class attributes too, so that an instance that never ran our constructor has them:
    one of a subclass that skips it, one whose `__class__` was assigned, one from an older pickle.
    A subclass may set them as well, and then they are its defaults.
    """

    _own_options: ClassVar[dict[str, Any]]  # those that PyTorch's class lacks, with their defaults
    # The class whose `forward` is checked: that of a user may be a subclass.
    _safeloss_class: ClassVar[type]
    _other_defaults: ClassVar[dict[str, Any]]  # those that a subclass has set as attributes

    __signature__ = SignatureOfCall()

    if TYPE_CHECKING:  # TorchScript reads annotations, and knows no `Literal`
        check_values: CheckValues
        """When the numbers are checked: at the "first" call, "always", or "never"."""
        empty: Empty
        """The mean over zero elements: NaN with a warning or without, a zero, or an error."""
        _memory: Memory | None
    else:
        check_values, empty, _memory = "first", "warn", None

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls._own_options = {
            name: getattr(cls, name)
            for name in (*OURS, "label_smoothing")
            if hasattr(cls, name) and not hasattr(getattr(cls, name), "__get__")  # a property
        }
        forward: Any = vars(cls).get("forward")
        if hasattr(forward, "signature") and not hasattr(forward, "__wrapped__"):
            # Written before its class had a name. TorchScript compiles what is wrapped, and
            # torch.fx reads its annotations.
            cls._safeloss_class = cls
            names, weighted = (*cls._own_options, *AT_CALL), not forward.signature.unweighted
            cls.__doc__ = documented(cls.__doc__, names, weighted)
            native: Any = super(cls, cls)
            forward.__wrapped__ = native.forward
            constructor: Any = cls
            constructor.__init__ = explained(cls.__init__)
            forward.__qualname__ = f"{cls.__qualname__}.forward"
            forward.__module__ = cls.__module__
        ours = getattr(cls, "_safeloss_class", cls)._own_options
        cls._other_defaults = {
            name: value for name, value in cls._own_options.items() if value != ours.get(name)
        }

    def extra_repr(self) -> str:
        """PyTorch's own, and those of our options that are not at their default."""
        inherited: Any = super()
        options = [
            f"{name}={getattr(self, name)!r}"
            for name, default in self._own_options.items()
            if getattr(self, name) != default
        ]
        return ", ".join([*filter(None, [inherited.extra_repr()]), *options])

    def __getstate__(self) -> dict[str, Any]:
        # Plain data, so that `torch.load(weights_only=True)` needs no class but the loss.
        state = dict(vars(self))
        memory = state.get("_memory")
        if isinstance(memory, Memory):
            state["_memory"] = memory.evidence()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        inherited: Any = super()
        inherited.__setstate__(state)
        memory_of(self)


def explained(construct: Any) -> Any:
    """The constructor `construct`, with the defaults of the subclass that it is called for.

    It says so if it is given outputs and labels, which PyTorch would take for a weight and an
    option.
    """

    @functools.wraps(construct)
    def init(self: Any, *arguments: Any, **options: Any) -> None:
        try:
            if arguments or options:
                _refuse_data(self, arguments, options)
            if self._other_defaults:
                options = {**self._other_defaults, **options}
            construct(self, *arguments, **options)
        except SafeLossError as refusal:
            end_at_the_call(refusal)
            raise

    return init


def _refuse_data(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    forward = module._safeloss_class.forward
    data = {name: options[name] for name in forward.inputs if name in options} if options else {}
    # No constructor takes a tensor for its second parameter, and a number may be a 0-d tensor.
    two = arguments[:2] if len(arguments) > 1 else ()
    if all([isinstance(value, Tensor) for value in two]) and any([value.dim() for value in two]):
        data = {**dict(zip(forward.inputs, two)), **data}
    if data:
        kept = {name: value for name, value in options.items() if name not in data}
        error = explain_construction(
            type(module).__name__, module._safeloss_class.__name__, forward, data, kept
        )
        name_arguments(error, {**data, **kept})
        raise error
