"""Modules for one of several classes, or for a set of them."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from safeloss import functional
from safeloss._contract.options import CheckValues, ClassDim, Empty, Reduction
from safeloss._runtime.checked import forward_of, prepare, verify_weights
from safeloss._runtime.module import AtCall, SafeModule

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SafeCrossEntropyLoss(SafeModule, nn.CrossEntropyLoss):
    """`nn.CrossEntropyLoss` whose softmax runs over the classes and nothing else.

    Targets are class indices of any integer dtype or, floating and of the shape of the scores,
    class probabilities. Where the classes are the last axis of three or more, say so by
    `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit, or one class, or a softmax over the batch
            (`AmbiguousLayoutError`: the classes may be axis 1 or the last).
        DTypeError: floating class indices, or one-hot integers.
        ValueRangeError: an index that is no class, probabilities that do not sum to 1, where
            values are read; with `empty="raise"` also a mean of which every target is ignored.

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
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight)
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        prepare(self, class_dim=class_dim, check_values=check_values, empty=empty)

    if TYPE_CHECKING:
        class_dim: ClassDim

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        class_dim = None
        forward = forward_of(functional.cross_entropy)


SafeCrossEntropy = SafeCrossEntropyLoss


class SafeNLLLoss(SafeModule, nn.NLLLoss):
    """`nn.NLLLoss` on log-probabilities over the classes and nothing else.

    Targets are class indices of any integer dtype. Where the classes are the last axis of three
    or more, say so by `class_dim=-1`.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: a positive input, an index that is no class, where values are read; with
            `empty="raise"` also a mean of which every target is ignored.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        class_dim: ClassDim = None,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight)
        super().__init__(weight, size_average, ignore_index, reduce, reduction)
        prepare(self, class_dim=class_dim, check_values=check_values, empty=empty)

    if TYPE_CHECKING:
        class_dim: ClassDim

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        class_dim = None
        forward = forward_of(functional.nll_loss)


class SafeMultiMarginLoss(SafeModule, nn.MultiMarginLoss):
    """`nn.MultiMarginLoss` with class indices of any integer dtype.

    A mean over an empty batch is refused, or 0: torch returns what memory holds.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: an index that is no class, where values are read.
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: Reduction = "mean",
        *,
        check_values: CheckValues = "first",
        empty: Empty = "warn",
    ) -> None:
        verify_weights(self, weight=weight)
        super().__init__(p, margin, weight, size_average, reduce, reduction)
        prepare(self, check_values=check_values, empty=empty)

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, **at_call: Unpack[AtCall]) -> Tensor: ...
    else:
        forward = forward_of(functional.multi_margin_loss)


class SafeMultiLabelMarginLoss(SafeModule, nn.MultiLabelMarginLoss):
    """`nn.MultiLabelMarginLoss` on sets of class indices that end at -1.

    A mean over an empty batch is refused, or 0: torch returns what memory holds.

    Raises:
        LayoutError: the shapes do not fit together.
        DTypeError: a dtype that this loss does not take.
        ValueRangeError: an index that is no class and not -1, where values are read.
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
        forward = forward_of(functional.multilabel_margin_loss)
