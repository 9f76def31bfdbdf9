"""Who called a function of torch's: the line of the user's, and what stands between."""

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeAlias

import torch

from safeloss import functional
from safeloss._messages.stack import Line, is_users

Site: TypeAlias = tuple[CodeType, int]  # the code is kept, so that its id is not given to another

_GUARD = str(Path(__file__).parent)
_KERNELS = str(Path(functional.__file__).parent)
_MODULES = torch.nn.modules.loss.__file__
# Torch's own frames between an operator and whoever wrote it.
_WRAPPERS = (torch.overrides.__file__, str(sys.modules["torch._tensor"].__file__))


class Caller(NamedTuple):
    """The innermost frame of the user's, and the loss of `torch.nn` that stands between."""

    frame: FrameType
    module: Any

    @property
    def line(self) -> Line:
        return Line(self.frame.f_code.co_filename, self.frame.f_lineno)

    @property
    def site(self) -> Site:
        return self.frame.f_code, self.frame.f_lasti


def caller(directly: bool = False) -> Caller | None:
    """Who called PyTorch; None if it is a kernel of ours, or, `directly`, other code of torch's.

    A mode calls what it is shown, and is not who called it.
    """
    module: Any = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if frame.f_code.co_name != "__torch_function__" and not file.startswith(_GUARD):
            if is_users(file):
                return Caller(frame, module)
            if file.startswith(_KERNELS) or (directly and file not in _WRAPPERS):
                return None
            if file == _MODULES:
                module = frame.f_locals.get("self")
        frame = frame.f_back
    return None
