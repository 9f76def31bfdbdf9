"""Every tensor layout, declared once and named for what its numbers mean.

A layout says which axes a tensor has, which element types, and what its numbers are. The same
word is always the same axis: `batch` counts samples, `classes` the classes, `*space` is whatever
lies between (time, height and width), `*shape` any axes at all. Use them for model heads too:

    @safeloss.typed
    def forward(self, x: Float[Tensor, "batch features"]) -> layouts.BinaryLogits: ...
"""

import numbers
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from jaxtyping import Bool, Float, Integer, Real, Shaped
from torch import SymFloat, SymInt, Tensor

from safeloss._contract import codes
from safeloss._contract.ctc import Alignable, Labelling, WithinTargets, WithinTime
from safeloss._contract.patterns import Fill, Reads, of_one_sample, parse
from safeloss._contract.suspicions import (
    Finite,
    FiniteWeights,
    NormalisedAsTarget,
    NormalisedOverClasses,
    NotMultiHot,
    NotProbabilities,
    NotSoftmax,
)
from safeloss._contract.values import (
    Between,
    ClassIndex,
    ClassSet,
    LogProbability,
    NotMissing,
    NotNaN,
    NotNegative,
    NotNegativeInMean,
    Sign,
    SumToOne,
    TargetProbability,
    Variance,
)

if TYPE_CHECKING:
    _Layout = TypeVar("_Layout")
    OneSample: TypeAlias = Annotated[_Layout, "without a batch axis"]
else:

    class OneSample:
        """`OneSample[ClassScores]` is the layout of one sample: without `batch` and `*space`."""

        def __class_getitem__(cls, layout: Any) -> Any:
            return of_one_sample(layout)


def __dir__() -> list[str]:
    """The layouts, without what they are written with."""
    return sorted(["OneSample", *[name for name, value in globals().items() if parse(value)]])


Anything: TypeAlias = Shaped[Tensor, "*shape"]

# For model heads.
BinaryLogits: TypeAlias = Float[Tensor, " batch"] | Float[Tensor, "batch 1"]  # one yes/no question
ClassLogits: TypeAlias = Float[Tensor, "batch classes"]  # one of several classes
MultiLabelLogits: TypeAlias = Float[Tensor, "batch classes"]  # several yes/no questions

# Yes/no questions, one score each: any shape, and as many labels.
Scores: TypeAlias = Annotated[Float[Tensor, "*shape"], Finite(), NotProbabilities()]
Labels: TypeAlias = Annotated[
    Real[Tensor, "*shape"] | Bool[Tensor, "*shape"],
    Reads.AS_LABELS,
    NotMissing(),
    Between(0, 1),
    Fill(0),
]
PerScore: TypeAlias = Annotated[  # on the trailing axis if 1-D
    Real[Tensor, "*shape"] | Bool[Tensor, "*shape"],
    Reads.AS_WEIGHTS,
    Reads.BROADCAST,
    NotNaN(),
    Fill(0),
]
PerPositiveScore: TypeAlias = Annotated[  # likewise
    Real[Tensor, "*shape"], Reads.AS_WEIGHTS, Reads.BROADCAST, NotNaN()
]

# Probabilities, one for each question, with labels that PyTorch itself holds to [0, 1].
Probabilities: TypeAlias = Annotated[
    Float[Tensor, "*shape"],
    Finite(),
    NotNaN(),  # which PyTorch refuses as well
    Between(0, 1, exact=True, scores=True, code=codes.NO_PROBABILITIES),
    Fill(0.5),
]
ExactLabels: TypeAlias = Annotated[
    Real[Tensor, "*shape"] | Bool[Tensor, "*shape"],
    Reads.AS_LABELS,
    NotMissing(),
    Between(0, 1, exact=True),
    Fill(0),
]

# Scores and distances, with the sign of each.
SignScores: TypeAlias = Annotated[Shaped[Tensor, "*shape"], Finite(), NotProbabilities()]
Signs: TypeAlias = Annotated[  # -1 or 1
    Shaped[Tensor, "*shape"], Reads.AS_TARGETS, NotMissing(), Sign(), Fill(1)
]

# Numbers to be met: one prediction each, any shape. They may be integer or complex where PyTorch
# takes such numbers.
Predictions: TypeAlias = Annotated[Anything, Finite()]
Targets: TypeAlias = Annotated[Anything, Reads.AS_TARGETS, NotMissing(), Fill(0)]
Rates: TypeAlias = Annotated[Anything, Finite(), NotNegative(unless="log_input")]
Counts: TypeAlias = Annotated[Anything, Reads.AS_TARGETS, NotMissing(), NotNegative(), Fill(0)]
PerPrediction: TypeAlias = Annotated[Float[Tensor, "*shape"], NotNaN(), Fill(0)]
LogProbabilities: TypeAlias = Annotated[
    Float[Tensor, "*shape"], Finite(), LogProbability(), NormalisedAsTarget()
]
TargetProbabilities: TypeAlias = Annotated[
    Anything, Reads.AS_TARGETS, NotMissing(), TargetProbability(unless="log_target"), Fill(0)
]

# Means with their variances, which may be one for each row, or broadcast along one axis. They are
# not aligned: `[1, B]` is never read as one for each row.
Means: TypeAlias = Annotated[Shaped[Tensor, "*batch outputs"] | Shaped[Tensor, ""], Finite()]
MeanTargets: TypeAlias = Annotated[
    Shaped[Tensor, "*batch outputs"] | Shaped[Tensor, ""], Reads.AS_TARGETS, NotMissing(), Fill(0)
]
Variances: TypeAlias = (
    Annotated[
        Float[Tensor, "*batch outputs"],
        Reads.UNALIGNED,
        Reads.BROADCAST,
        NotNaN(),
        Variance(exact=True),
        Fill(1),
    ]
    | Annotated[Float[Tensor, "*batch"], Reads.UNALIGNED, NotNaN(), Variance(exact=True), Fill(1)]
    | Annotated[Float[Tensor, ""], Reads.UNALIGNED, NotNaN(), Variance(exact=True), Fill(1)]
)

# Several yes/no questions about each sample.
MultiLabelScores: TypeAlias = Annotated[
    Float[Tensor, "batch classes"], Finite(), NotProbabilities()
]
MultiHot: TypeAlias = Annotated[
    Real[Tensor, "batch classes"] | Bool[Tensor, "batch classes"],
    Reads.AS_LABELS,
    NotMissing(),
    Between(0, 1),
    Fill(0),
]
PerLabel: TypeAlias = Annotated[
    Real[Tensor, "batch classes"] | Bool[Tensor, "batch classes"],
    Reads.AS_WEIGHTS,
    Reads.BROADCAST,
    NotNaN(),
    Fill(0),
]
PerPositiveLabel: TypeAlias = Annotated[
    Real[Tensor, "batch classes"], Reads.AS_WEIGHTS, Reads.BROADCAST, NotNaN()
]

# Several yes/no questions about each place, such as a pixel; the second axis holds them.
ClassMaps: TypeAlias = Annotated[
    Float[Tensor, "batch classes *space"], Finite(), NotProbabilities()
]
LabelMaps: TypeAlias = Annotated[
    Real[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    Reads.AS_LABELS,
    NotMissing(),
    Between(0, 1),
    Fill(0),
]

# One of several classes, with one score per class; the classes are the second axis.
ClassScores: TypeAlias = Annotated[Float[Tensor, "batch classes *space"], Finite(), NotSoftmax()]
ClassIndices: TypeAlias = Annotated[
    Integer[Tensor, "batch *space"] | Bool[Tensor, "batch *space"],
    Reads.AS_INDICES,
    ClassIndex(),
    Fill(0),
]
ClassProbabilities: TypeAlias = Annotated[
    Float[Tensor, "batch classes *space"], Reads.AS_TARGETS, NotMissing(), SumToOne(), Fill(0)
]
PerClass: TypeAlias = Annotated[Float[Tensor, " classes"], Reads.AS_SCORES, NotNaN()]

ClassLogProbabilities: TypeAlias = Annotated[
    Float[Tensor, "batch classes *space"], Finite(), LogProbability(), NormalisedOverClasses()
]
MarginScores: TypeAlias = Annotated[  # only their differences count
    Float[Tensor, "batch classes"], Finite()
]
RowClasses: TypeAlias = Annotated[
    Integer[Tensor, " batch"] | Bool[Tensor, " batch"], Reads.AS_INDICES, ClassIndex(), Fill(0)
]
MarginWeights: TypeAlias = Annotated[Float[Tensor, " classes"], Reads.AS_SCORES, NotNaN()]
ClassSets: TypeAlias = Annotated[
    Integer[Tensor, "batch classes"], Reads.AS_INDICES, ClassSet(), NotMultiHot(), Fill(-1)
]

# Several yes/no questions, on the last axis.
LabelScores: TypeAlias = Annotated[Float[Tensor, "*batch classes"], Finite(), NotProbabilities()]
LabelTargets: TypeAlias = Annotated[
    Real[Tensor, "*batch classes"] | Bool[Tensor, "*batch classes"],
    Reads.AS_LABELS,
    NotMissing(),
    Between(0, 1),
    Fill(0),
]
LabelWeights: TypeAlias = Annotated[
    Real[Tensor, "*batch classes"] | Bool[Tensor, "*batch classes"],
    Reads.AS_WEIGHTS,
    Reads.BROADCAST,
    NotNaN(),
    Fill(0),
]

# Vectors to be compared.
Embeddings: TypeAlias = Annotated[Float[Tensor, "batch features"], Finite()]
EmbeddingSigns: TypeAlias = Annotated[
    Shaped[Tensor, " batch"], Reads.AS_TARGETS, NotMissing(), Sign(), Fill(1)
]
Points: TypeAlias = Annotated[Float[Tensor, "*batch features"], Finite()]

# What a layer of one row of weights per class (and place) turns into class scores.
Features: TypeAlias = Annotated[Float[Tensor, "batch features"], Finite()]
LinearWeight: TypeAlias = Annotated[Float[Tensor, "classes *space features"], Reads.BINDS, Finite()]
LinearBias: TypeAlias = Annotated[Float[Tensor, "classes *space"], Finite()]

# Sequences, of which the time axis comes first. Labels are one row for each sample, padded, or
# all of them joined; `_` is any size.
SequenceLogProbabilities: TypeAlias = Annotated[
    Float[Tensor, "time batch classes"] | Float[Tensor, "time classes"],
    Finite(),
    LogProbability(),
    NormalisedOverClasses(),
]
SequenceLabels: TypeAlias = Annotated[
    Integer[Tensor, "batch _"] | Annotated[Integer[Tensor, " _"], Reads.JOINED],
    Labelling(),
    Alignable(),
]
# Lengths may be sequences of Python integers, too, or of 0-d tensors.
InputLengths: TypeAlias = Annotated[
    Integer[Tensor, " batch"] | Integer[Tensor, ""], WithinTime(), Fill(1)
]
LabelLengths: TypeAlias = Annotated[
    Integer[Tensor, " batch"] | Integer[Tensor, ""], WithinTargets(), Fill(0)
]

# `MultiMarginLoss` gives `[1]` for one sample whose class is `[1]`, and a number where it is `[]`.
SampleClass: TypeAlias = Annotated[
    Integer[Tensor, "1"] | Bool[Tensor, "1"], Reads.AS_INDICES, ClassIndex(), Fill(0)
]

# What may be given with each call. Weights and masks have the shape of the unreduced loss, or its
# first axes; of a denominator there is one number.
SampleWeights: TypeAlias = Annotated[
    Real[Tensor, "..."], Reads.PER_LOSS, FiniteWeights(), NotNaN(), NotNegativeInMean()
]
SampleMask: TypeAlias = Annotated[Bool[Tensor, "..."], Reads.PER_LOSS]
if TYPE_CHECKING:
    Denominator: TypeAlias = Real[Tensor, ""] | float
else:
    # NumPy's too, and a size that a trace knows only by its symbol.
    Denominator: TypeAlias = Real[Tensor, ""] | numbers.Real | SymInt | SymFloat
