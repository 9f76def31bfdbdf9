"""The losses as modules: torch's own, with `forward` pointed at a checked kernel.

Every one takes, by keyword, `check_values` and `empty`, and `class_dim` where its inputs or
weights have a class axis:

    check_values   "first" (default) reads the numbers of the first call, "always" those of every
                   call, "never" none
    empty          a mean over nothing is an error ("raise", default), a zero connected to the
                   graph ("zero"), or torch's NaN ("nan")
    class_dim      the axis of the classes in inputs of rank 3 and more: 1, which is torch's
                   convention, or -1
"""

from torch import nn

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

# Native class to safe class.
SAFE: dict[type[nn.Module], type[nn.Module]] = {
    nn.AdaptiveLogSoftmaxWithLoss: SafeAdaptiveLogSoftmaxWithLoss,
    nn.BCELoss: SafeBCELoss,
    nn.BCEWithLogitsLoss: SafeBCEWithLogitsLoss,
    nn.CTCLoss: SafeCTCLoss,
    nn.CosineEmbeddingLoss: SafeCosineEmbeddingLoss,
    nn.CrossEntropyLoss: SafeCrossEntropyLoss,
    nn.GaussianNLLLoss: SafeGaussianNLLLoss,
    nn.HingeEmbeddingLoss: SafeHingeEmbeddingLoss,
    nn.HuberLoss: SafeHuberLoss,
    nn.KLDivLoss: SafeKLDivLoss,
    nn.L1Loss: SafeL1Loss,
    nn.MSELoss: SafeMSELoss,
    nn.MarginRankingLoss: SafeMarginRankingLoss,
    nn.MultiLabelMarginLoss: SafeMultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss: SafeMultiLabelSoftMarginLoss,
    nn.MultiMarginLoss: SafeMultiMarginLoss,
    nn.NLLLoss: SafeNLLLoss,
    nn.PoissonNLLLoss: SafePoissonNLLLoss,
    nn.SmoothL1Loss: SafeSmoothL1Loss,
    nn.SoftMarginLoss: SafeSoftMarginLoss,
    nn.TripletMarginLoss: SafeTripletMarginLoss,
    nn.TripletMarginWithDistanceLoss: SafeTripletMarginWithDistanceLoss,
}

if hasattr(nn, "LinearCrossEntropyLoss"):
    from safeloss.losses.linear import SafeLinearCrossEntropyLoss

    __all__ += ["SafeLinearCrossEntropyLoss"]
    SAFE[nn.LinearCrossEntropyLoss] = SafeLinearCrossEntropyLoss
