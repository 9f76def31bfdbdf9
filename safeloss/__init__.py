"""Losses that score every prediction against its own target, or say why they cannot."""

from safeloss import functional, layouts, losses
from safeloss._align import align
from safeloss._audit import Audit, audit
from safeloss._guard import allow, guard
from safeloss._guard.findings import Finding
from safeloss._trace import trace
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
    SAFE,
    MultiLabelBCE,
    SafeAdaptiveLogSoftmaxWithLoss,
    SafeBCELoss,
    SafeBCEWithLogitsLoss,
    SafeCosineEmbeddingLoss,
    SafeCrossEntropy,
    SafeCrossEntropyLoss,
    SafeCTCLoss,
    SafeGaussianNLLLoss,
    SafeHingeEmbeddingLoss,
    SafeHuberLoss,
    SafeKLDivLoss,
    SafeL1Loss,
    SafeMarginRankingLoss,
    SafeMSELoss,
    SafeMultiLabelMarginLoss,
    SafeMultiLabelSoftMarginLoss,
    SafeMultiMarginLoss,
    SafeNLLLoss,
    SafePoissonNLLLoss,
    SafeSmoothL1Loss,
    SafeSoftMarginLoss,
    SafeTripletMarginLoss,
    SafeTripletMarginWithDistanceLoss,
)

__all__ = [
    "SAFE",
    "AmbiguousLayoutError",
    "ArgumentTypeError",
    "Audit",
    "DTypeError",
    "DeviceError",
    "Finding",
    "LayoutError",
    "MultiLabelBCE",
    "SafeAdaptiveLogSoftmaxWithLoss",
    "SafeBCELoss",
    "SafeBCEWithLogitsLoss",
    "SafeCTCLoss",
    "SafeCosineEmbeddingLoss",
    "SafeCrossEntropy",
    "SafeCrossEntropyLoss",
    "SafeGaussianNLLLoss",
    "SafeHingeEmbeddingLoss",
    "SafeHuberLoss",
    "SafeKLDivLoss",
    "SafeL1Loss",
    "SafeLossError",
    "SafeMSELoss",
    "SafeMarginRankingLoss",
    "SafeMultiLabelMarginLoss",
    "SafeMultiLabelSoftMarginLoss",
    "SafeMultiMarginLoss",
    "SafeNLLLoss",
    "SafePoissonNLLLoss",
    "SafeSmoothL1Loss",
    "SafeSoftMarginLoss",
    "SafeTripletMarginLoss",
    "SafeTripletMarginWithDistanceLoss",
    "SuspiciousInputWarning",
    "ValueRangeError",
    "__version__",
    "align",
    "allow",
    "audit",
    "functional",
    "guard",
    "layouts",
    "trace",
    "typed",
]

if hasattr(losses, "SafeLinearCrossEntropyLoss"):
    from safeloss.losses import SafeLinearCrossEntropyLoss

    __all__ += ["SafeLinearCrossEntropyLoss"]
