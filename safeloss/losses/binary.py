"""Modules for yes/no questions."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from safeloss import functional
from safeloss._contract.options import CheckValues, ClassDim, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare, verify_fraction, verify_weights
from safeloss._runtime.module import AtCall, SafeModule

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SafeBCELoss(SafeModule, nn.BCELoss):
    """`nn.BCELoss` that scores every probability against its own label.

    Labels may be bool, integer or floating, and follow the probabilities by axes of size 1.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a probability or a label outside [0, 1], where values are read.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        class_dim: ClassDim = None,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight)
        super().__init__(weight, size_average, reduce, reduction)
        prepare(self, class_dim=class_dim, check_values=check_values, empty=empty)

    if TYPE_CHECKING:
        class_dim: ClassDim

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        class_dim = None
        forward = forward_of(functional.binary_cross_entropy)


class SafeBCEWithLogitsLoss(SafeModule, nn.BCEWithLogitsLoss):
    """`nn.BCEWithLogitsLoss` that scores every prediction against its own label.

    Scores `[batch, 1]` meet labels `[batch]`, and the output follows the scores. Labels may be
    bool, integer or floating. What would broadcast is refused.

    Raises:
        LayoutError: the shapes do not fit (`AmbiguousLayoutError`: or fit twice).
        DTypeError: a dtype that this loss does not take.
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
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight, pos_weight=pos_weight)
        super().__init__(weight, size_average, reduce, reduction, pos_weight)
        prepare(self, class_dim=class_dim, check_values=check_values, empty=empty)

    if TYPE_CHECKING:
        class_dim: ClassDim

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        class_dim = None
        forward = forward_of(functional.binary_cross_entropy_with_logits)


class MultiLabelBCE(SafeModule, nn.BCEWithLogitsLoss):
    """Binary cross entropy on `[batch, classes]`: several yes/no questions about each sample.

    The mean equals that of `nn.MultiLabelSoftMarginLoss`, in one fused operation. Class indices,
    `[batch]` and one class are refused. With `label_smoothing` the labels `y` are
    `y (1 - s) + s / 2`. `num_classes` binds the class axis; with it, one sample
    may come without a batch axis. On two axes both values of `class_dim` name the same one.

    Raises:
        LayoutError: class indices, one class, `[batch]`, or shapes that do not fit.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a label outside [0, 1], where values are read.

    >>> loss = MultiLabelBCE(num_classes=3)
    >>> loss(torch.zeros(8, 3), torch.ones(8, 3, dtype=torch.bool))
    tensor(0.6931)
    """

    label_smoothing = 0.0

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        pos_weight: Tensor | None = None,
        *,
        label_smoothing: float = 0.0,
        num_classes: int | None = None,
        class_dim: ClassDim = None,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight, pos_weight=pos_weight)
        verify_fraction(self, label_smoothing=label_smoothing)
        super().__init__(weight, size_average, reduce, reduction, pos_weight)
        prepare(
            self,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
            class_dim=class_dim,
            check_values=check_values,
            empty=empty,
        )

    if TYPE_CHECKING:
        num_classes: int | None
        class_dim: ClassDim

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        num_classes = None
        class_dim = None
        forward = forward_of(functional.multilabel_binary_cross_entropy)


class SafeMultiLabelSoftMarginLoss(SafeModule, nn.MultiLabelSoftMarginLoss):
    """`nn.MultiLabelSoftMarginLoss` that scores every prediction against its own label.

    Torch broadcasts here without a word. On `[batch, classes]`, `MultiLabelBCE` computes the same
    mean in one fused operation.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a label outside [0, 1], where values are read.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight)
        super().__init__(weight, size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.multilabel_soft_margin_loss)


class SafeSoftMarginLoss(SafeModule, nn.SoftMarginLoss):
    """`nn.SoftMarginLoss` that scores every prediction against its own sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.soft_margin_loss)


class SafeHingeEmbeddingLoss(SafeModule, nn.HingeEmbeddingLoss):
    """`nn.HingeEmbeddingLoss` that scores every distance against its own sign.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a target that is neither -1 nor 1, where values are read.
    """

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.hinge_embedding_loss)
