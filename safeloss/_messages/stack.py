"""Whose code is on the stack: the line of the user's that called, past torch's frames and ours."""

import functools
import linecache
import os
import sys
import sysconfig
import warnings
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

import beartype
import jaxtyping
import torch
from torch.compiler import is_dynamo_compiling

from safeloss._torch import never_compiled
from safeloss.errors import SuspiciousInputWarning

# Folders, with the separator at the end: torchvision is not torch.
_OURS = (os.path.join(Path(__file__).parents[1], ""), "<safeloss")
_TORCH = os.path.join(Path(torch.__file__).parent, "")
_CHECKERS = tuple(os.path.join(p.__path__[0], "") for p in (beartype, jaxtyping))
_WRITTEN = "<eval_with_key>"  # code that torch.fx has written
_COMPILED = "torch._inductor"  # the modules that it writes are in files anywhere
_LIBRARIES = {os.path.join(sysconfig.get_path(key), "") for key in ("stdlib", "platstdlib")}
_STANDARD = (*_LIBRARIES, "<frozen")
_INSTALLED = tuple(
    os.path.join(library, packages, "")
    for library in _LIBRARIES
    for packages in ("site-packages", "dist-packages")
)


class Line(NamedTuple):
    """A line of source code."""

    file: str
    number: int

    @property
    def text(self) -> str:
        """The source; empty where there is none, as in `python -c`."""
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        path = Path(self.file)
        inside = path.is_relative_to(Path.cwd())
        return f"{path.relative_to(Path.cwd()) if inside else path}:{self.number}"


@never_compiled
def users_frame(first: int = 1) -> FrameType | None:
    """The innermost frame of the user's, who may be a library; None if all are torch's or ours.

    The `first` frames are known to be ours: to look at one takes time, since it becomes an object.
    """
    frame: FrameType | None = sys._getframe(first)
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename not in _NOT_USERS:
            if not is_users(filename):
                if len(_NOT_USERS) < _MOST_FILES:  # torch.fx writes new ones for ever
                    _NOT_USERS.add(filename)
            elif not str(frame.f_globals.get("__name__")).startswith(_COMPILED):
                return frame
        frame = frame.f_back
    return None


_MOST_FILES = 4096
_NOT_USERS: set[str] = set()  # files that were found so, since the question is asked often


def users_line() -> Line | None:
    """Where the user's code stands."""
    frame = users_frame()
    return None if frame is None else Line(frame.f_code.co_filename, frame.f_lineno)


def is_ours(filename: str) -> bool:
    """Whether a file is of this library, or code that it has generated."""
    return filename.startswith(_OURS)


@functools.lru_cache(4096)
def is_users(filename: str) -> bool:
    """Whether a file is neither ours, nor torch's, nor of what stands between."""
    if filename.startswith((*_OURS, _TORCH, _WRITTEN, *_CHECKERS)):
        return False
    return filename.startswith(_INSTALLED) or not filename.startswith(_STANDARD)


def raised_by_torch(error: BaseException) -> bool:
    """Whether `error` comes from torch or from us, and not from code of the user's in between."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or trace.tb_frame.f_code.co_filename.startswith((*_OURS, _TORCH))


def end_at_the_call(error: BaseException) -> None:
    """Leave our own frames out of the traceback of `error`, so that it ends where we were called.

    For an exception that is handled, and then raised again by a bare `raise`: since Python 3.11
    that does not add the frame of the handler once more.
    """
    if not is_dynamo_compiling():  # there it is text
        error.__traceback__ = _without_ours(error.__traceback__)


def _without_ours(trace: TracebackType | None, inside: bool = True) -> TracebackType | None:
    """`trace` without our frames, nor those of PyTorch through which we call ourselves."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((*_OURS, _TORCH) if inside else _OURS):
            trace.tb_next = _without_ours(trace.tb_next, inside=False)
            break
        inside, trace = True, trace.tb_next
    return trace


def warn(
    message: str,
    category: type[Warning] = SuspiciousInputWarning,
    frame: FrameType | None = None,
) -> None:
    """Warn at the line that called the loss, however deep we are, or where `frame` stands."""
    level, at = 1, sys._getframe()
    while at.f_back is not None and at is not frame:
        if frame is None and not at.f_code.co_filename.startswith((*_OURS, _TORCH)):
            break
        level, at = level + 1, at.f_back
    warnings.warn(message, category, stacklevel=level)


def warn_once(message: str, *, code: str, kind: str = "") -> None:
    """Warn of suspicious inputs, once for each place that calls a loss, and each kind of message:
    one that tells where the numbers are differs from batch to batch."""
    frame = users_frame()
    place = None if frame is None else (id(frame.f_code), frame.f_lasti, kind or message)
    if place in _warned:
        return
    warn(f"[{code}] {message}")  # raises where warnings are errors, and then it does so every time
    if frame is not None and place is not None:
        if len(_warned) >= _MOST_WARNED:
            _warned.clear()
        _warned[place] = frame.f_code


_MOST_WARNED = 4096
# Where each message was said. The code is kept, so that its id is not given to another.
_warned: dict[tuple[int, int, str], CodeType] = {}
