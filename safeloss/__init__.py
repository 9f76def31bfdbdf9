"""Losses that score every prediction against its own target, or say why they cannot."""

import importlib
from typing import TYPE_CHECKING, Any

from safeloss import functional, layouts, losses
from safeloss._align import align
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

# What looks at losses from outside is imported once it is asked for: a loss never needs it.
_LATER = {
    "Audit": "safeloss._audit",
    "Finding": "safeloss._guard.findings",
    "allow": "safeloss._guard",
    "audit": "safeloss._audit",
    "guard": "safeloss._guard",
}

if TYPE_CHECKING:
    from safeloss._audit import Audit, audit
    from safeloss._guard import allow, guard
    from safeloss._guard.findings import Finding


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
