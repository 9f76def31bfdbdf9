"""Losses that score every prediction against its own target, or say why they cannot."""

from torch import nn as _nn

from safeloss._lazy import later as _public

_missing = [] if hasattr(_nn, "LinearCrossEntropyLoss") else ["SafeLinearCrossEntropyLoss"]
__getattr__, __dir__, __all__ = _public(__name__, _missing)
