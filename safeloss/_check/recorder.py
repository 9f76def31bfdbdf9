"""What happens in one training step: the losses that are called, and what the modules give."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from safeloss._guard.native import SIGNATURES
from safeloss._messages.stack import Line, users_line
from safeloss._runtime.signature import Named, Signature


class LossCall(NamedTuple):
    """A call of one of PyTorch's losses, also of one inside a loss of ours."""

    signature: Signature
    named: Named
    result: Tensor | None  # None where it raised
    line: Line | None

    @property
    def input(self) -> Any:
        return self.named[self.signature.names[0]]

    @property
    def target(self) -> Any:
        return self.named[self.signature.reader.target]


class Recorder(TorchFunctionMode):
    """Sees the calls of losses in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[LossCall] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if is_dynamo_compiling() or func not in SIGNATURES:
            return func(*args, **given)
        signature, line = SIGNATURES[func], users_line()
        defaults = {parameter.name: parameter.default for parameter in signature.parameters}
        named = {**defaults, **dict(zip(signature.names, args)), **given}
        self.calls.append(LossCall(signature, named, None, line))
        result = func(*args, **given)
        self.calls[-1] = self.calls[-1]._replace(result=result)
        return result


@contextlib.contextmanager
def recorded() -> Iterator[list[LossCall]]:
    """The calls of losses inside, in their order."""
    recorder = Recorder()
    with recorder if not is_dynamo_compiling() else contextlib.nullcontext():
        yield recorder.calls


@contextlib.contextmanager
def modules_seen(model: nn.Module) -> Iterator[dict[int, tuple[Tensor, nn.Module]]]:
    """Which module made a tensor, by the `id` of the tensor, which is kept alive."""
    made: dict[int, tuple[Tensor, nn.Module]] = {}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            made.setdefault(id(output), (output, module))

    handles = [
        module.register_forward_hook(note) for module in model.modules() if _hookable(module)
    ]
    try:
        yield made
    finally:
        for handle in handles:
            handle.remove()


def _hookable(module: nn.Module) -> bool:
    return not isinstance(module, torch.jit.ScriptModule)
