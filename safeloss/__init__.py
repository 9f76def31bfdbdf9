"""Losses that score every prediction against its own target, or say why they cannot."""

from safeloss import functional, layouts
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
