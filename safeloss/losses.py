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

from typing import Literal, TypeAlias

from torch import Tensor, nn

from safeloss import functional
from safeloss._checked import forward_of, prepare

__all__ = ["MultiLabelBCE", "SafeBCEWithLogitsLoss", "SafeCrossEntropy", "SafeCrossEntropyLoss"]

CheckValues: TypeAlias = Literal["first", "always", "never"]
Empty: TypeAlias = Literal["raise", "zero", "nan"]
ClassDim: TypeAlias = Literal[1, -1] | None
Reduction: TypeAlias = Literal["none", "mean", "sum"]


class SafeBCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """`nn.BCEWithLogitsLoss` that scores every prediction against its own label.

    Scores `[batch, 1]` meet labels `[batch]`, and the output follows the scores. Labels may be
    bool, integer or floating. What would broadcast is refused.

    Raises:
        LayoutError: the shapes do not fit (`AmbiguousLayoutError`: or fit twice).
        DTypeError: an element type that is not declared.
        ValueRangeError: a label outside [0, 1], where values are read.

    >>> loss = SafeBCEWithLogitsLoss()
    >>> loss(torch.zeros(8, 1), torch.ones(8))
    tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        pos_weight: Tensor | None = None,
        *,
        class_dim: ClassDim = None,
        check_values: CheckValues = "first",
        empty: Empty = "raise",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction, pos_weight)
        prepare(self, class_dim=class_dim, check_values=check_values, empty=empty)

    forward = forward_of(functional.binary_cross_entropy_with_logits)


class MultiLabelBCE(nn.BCEWithLogitsLoss):
    """Binary cross entropy on `[batch, classes]`: several yes/no questions about each sample.

    The mean equals that of `nn.MultiLabelSoftMarginLoss`, in one fused operation. Class indices,
    `[batch]` and one class are refused. `num_classes` binds the class axis; with it, one sample
    may come without a batch axis. On two axes both values of `class_dim` name the same one.

    Raises:
        LayoutError: class indices, one class, `[batch]`, or shapes that do not fit.
        DTypeError: an element type that is not declared.
        ValueRangeError: a label outside [0, 1], where values are read.

    >>> loss = MultiLabelBCE(num_classes=3)
    >>> loss(torch.zeros(8, 3), torch.ones(8, 3, dtype=torch.bool))
    tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        pos_weight: Tensor | None = None,
        *,
        num_classes: int | None = None,
        class_dim: ClassDim = None,
        check_values: CheckValues = "first",
        empty: Empty = "raise",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction, pos_weight)
        prepare(
            self,
            num_classes=num_classes,
            class_dim=class_dim,
            check_values=check_values,
            empty=empty,
        )

    forward = forward_of(functional.multilabel_binary_cross_entropy)


class SafeCrossEntropyLoss(nn.CrossEntropyLoss):
    """`nn.CrossEntropyLoss` whose softmax runs over the classes and nothing else.

    Targets are class indices of any integer dtype or, floating and of the shape of the scores,
    class probabilities. Where the classes are the last axis of three or more, say so by
    `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit, or one class, or a softmax over the batch
            (`AmbiguousLayoutError`: the classes may be axis 1 or the last).
        DTypeError: floating class indices, or one-hot integers.
        ValueRangeError: an index that is no class, probabilities that do not sum to 1, or a mean
            of which every target is ignored, where values are read.

    >>> loss = SafeCrossEntropyLoss(label_smoothing=0.1)
    >>> loss(torch.zeros(8, 3), torch.zeros(8, dtype=torch.uint8))
    tensor(1.0986)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        *,
        class_dim: ClassDim = None,
        check_values: CheckValues = "first",
        empty: Empty = "raise",
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        prepare(self, class_dim=class_dim, check_values=check_values, empty=empty)

    forward = forward_of(functional.cross_entropy)


SafeCrossEntropy = SafeCrossEntropyLoss
