from safeloss import errors as errors
from safeloss import functional, layouts
from safeloss import losses as losses
from safeloss import testing as testing
from safeloss._align import align
from safeloss._audit import Audit, audit
from safeloss._convert import convert, to_native
from safeloss._extra.dice import DiceLoss
from safeloss._extra.focal import SigmoidFocalLoss, SoftmaxFocalLoss
from safeloss._guard import allow, guard
from safeloss._guard.findings import Finding
from safeloss._loss_module import LossModule
from safeloss._own import checked
from safeloss._trace import trace
from safeloss._typed import typed
from safeloss._version import __version__
from safeloss._wrap import wrap
from safeloss.errors import (
    AmbiguousLayoutError,
    ArgumentTypeError,
    DeviceError,
    DTypeError,
    LayoutError,
    OptionError,
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
    SafeLinearCrossEntropyLoss,
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
    "DiceLoss",
    "Finding",
    "LayoutError",
    "LossModule",
    "MultiLabelBCE",
    "OptionError",
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
    "SafeLinearCrossEntropyLoss",
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
    "SigmoidFocalLoss",
    "SoftmaxFocalLoss",
    "SuspiciousInputWarning",
    "ValueRangeError",
    "__version__",
    "align",
    "allow",
    "audit",
    "checked",
    "convert",
    "functional",
    "guard",
    "layouts",
    "to_native",
    "trace",
    "typed",
    "wrap",
]
