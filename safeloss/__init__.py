"""Losses that score every prediction against its own target, or say why they cannot."""

from safeloss import functional, layouts
from safeloss._align import align
from safeloss._typed import typed
from safeloss._version import __version__
from safeloss.errors import (
    AmbiguousLayoutError,
    ArgumentTypeError,
    DeviceError,
    DTypeError,
    LayoutError,
    SafeLossError,
    SuspiciousInputWarning,
    ValueRangeError,
)
from safeloss.losses import (
    MultiLabelBCE,
    SafeBCEWithLogitsLoss,
    SafeCrossEntropy,
    SafeCrossEntropyLoss,
)

__all__ = [
    "AmbiguousLayoutError",
    "ArgumentTypeError",
    "DTypeError",
    "DeviceError",
    "LayoutError",
    "MultiLabelBCE",
    "SafeBCEWithLogitsLoss",
    "SafeCrossEntropy",
    "SafeCrossEntropyLoss",
    "SafeLossError",
    "SuspiciousInputWarning",
    "ValueRangeError",
    "__version__",
    "align",
    "functional",
    "layouts",
    "typed",
]
