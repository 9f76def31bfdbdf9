"""Which safe loss stands in for which native one."""

from torch import nn

from safeloss.losses.binary import (
    SafeBCELoss,
    SafeBCEWithLogitsLoss,
    SafeHingeEmbeddingLoss,
    SafeMultiLabelSoftMarginLoss,
    SafeSoftMarginLoss,
)
from safeloss.losses.classes import (
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

if hasattr(nn, "LinearCrossEntropyLoss"):  # since torch 2.13
    from safeloss.losses.linear import SafeLinearCrossEntropyLoss

    SAFE[nn.LinearCrossEntropyLoss] = SafeLinearCrossEntropyLoss
