from safeloss.losses._natives import SAFE
from safeloss.losses.binary import (
    MultiLabelBCE,
    SafeBCELoss,
    SafeBCEWithLogitsLoss,
    SafeHingeEmbeddingLoss,
    SafeMultiLabelSoftMarginLoss,
    SafeSoftMarginLoss,
)
from safeloss.losses.classes import (
    SafeCrossEntropy,
    SafeCrossEntropyLoss,
    SafeMultiLabelMarginLoss,
    SafeMultiMarginLoss,
    SafeNLLLoss,
)
from safeloss.losses.layers import (
    SafeAdaptiveLogSoftmaxWithLoss,
)
from safeloss.losses.linear import SafeLinearCrossEntropyLoss
from safeloss.losses.regression import (
    SafeGaussianNLLLoss,
    SafeHuberLoss,
    SafeKLDivLoss,
    SafeL1Loss,
    SafeMSELoss,
    SafePoissonNLLLoss,
    SafeSmoothL1Loss,
)
from safeloss.losses.sequences import (
    SafeCTCLoss,
)
from safeloss.losses.similarity import (
    SafeCosineEmbeddingLoss,
    SafeMarginRankingLoss,
    SafeTripletMarginLoss,
    SafeTripletMarginWithDistanceLoss,
)

__all__ = [
    "SAFE",
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
    "SafeLinearCrossEntropyLoss",
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
]
