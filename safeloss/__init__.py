"""PyTorch losses that score every prediction against its own target, or say why they cannot.

    from safeloss import SafeBCEWithLogitsLoss as BCEWithLogitsLoss

Each loss is a subclass of the one in `torch.nn` that it is named after. It takes the same arguments
and computes the same numbers. Targets that differ from the predictions by axes of size 1 are
reshaped; anything else that PyTorch would broadcast raises an error, which suggests a fix.

Losses:
    yes/no questions    SafeBCEWithLogitsLoss, SafeBCELoss, SafeSoftMarginLoss,
                        SafeHingeEmbeddingLoss, SafeMultiLabelSoftMarginLoss, and MultiLabelBCE,
                        which computes the mean of the latter in one operation
    classes             SafeCrossEntropyLoss (also SafeCrossEntropy), SafeNLLLoss,
                        SafeMultiMarginLoss, SafeMultiLabelMarginLoss
    numbers             SafeMSELoss, SafeL1Loss, SafeSmoothL1Loss, SafeHuberLoss,
                        SafePoissonNLLLoss, SafeGaussianNLLLoss, SafeKLDivLoss
    pairs, triplets     SafeCosineEmbeddingLoss, SafeMarginRankingLoss, SafeTripletMarginLoss,
                        SafeTripletMarginWithDistanceLoss
    sequences           SafeCTCLoss
    with a last layer   SafeLinearCrossEntropyLoss (since torch 2.13),
                        SafeAdaptiveLogSoftmaxWithLoss
    SAFE                the dictionary from PyTorch's classes to these

For models, and for losses that are no modules of this library:
    convert, to_native  put these losses in the place of PyTorch's, wherever an object holds them
    functional          the losses as functions, named as in `torch.nn.functional`
    layouts             type hints for tensors, named for what their numbers mean
    typed               checks the tensors that a function takes and returns by its type hints
    align               reshapes targets like predictions, for a loss written by hand
    audit               finds out whether a loss mixes samples, and returns an Audit
    guard, allow        check PyTorch's own losses, wherever they are called; each Finding is
                        listed, and what is allowed is left out
    trace               records which operations changed the shapes of tensors

Errors are SafeLossErrors, which are ValueErrors:
    LayoutError         the shapes do not fit together (AmbiguousLayoutError: in two ways)
    DTypeError, DeviceError, ArgumentTypeError, OptionError
    ValueRangeError     numbers that this loss cannot take
    SuspiciousInputWarning is the warning.

`help(safeloss.SafeCrossEntropyLoss)` explains a loss and its options. `python -m safeloss` has
commands; `python -m safeloss explain CODE` explains the code of an error.
"""

from safeloss._lazy import later as _public


def _missing() -> list[str]:
    """The names that the installed torch has nothing for; asking imports it, as `lint` need not."""
    from torch import nn

    return [] if hasattr(nn, "LinearCrossEntropyLoss") else ["SafeLinearCrossEntropyLoss"]


__getattr__, __dir__ = _public(__name__, _missing)
