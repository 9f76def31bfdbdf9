"""Losses that score every prediction against its own target, or say why they cannot."""

from safeloss._lazy import later as _public


def _missing() -> list[str]:
    """The names that the installed torch has nothing for; asking imports it, as `lint` need not."""
    from torch import nn

    return [] if hasattr(nn, "LinearCrossEntropyLoss") else ["SafeLinearCrossEntropyLoss"]


__getattr__, __dir__ = _public(__name__, _missing)
