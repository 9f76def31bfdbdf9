"""Every tensor layout, declared once and named for what its numbers mean.

A layout says which axes a tensor has, which element types, and what its numbers are. The same
word is always the same axis: `batch` counts samples, `classes` the classes, `*space` is whatever
lies between (time, height and width), `*shape` any axes at all. Use them for model heads too:

    @safeloss.typed
    def forward(self, x: Float[Tensor, "batch features"]) -> layouts.BinaryLogits: ...
"""

from typing import Annotated, TypeAlias

from jaxtyping import Bool, Float, Integer, Real, Shaped
from torch import Tensor

from safeloss._matching import Reads
from safeloss._values import (
    Between,
    ClassIndex,
    NotProbabilities,
    NotSoftmax,
    SomeCounted,
    SomeWeight,
    SumToOne,
)

Anything: TypeAlias = Shaped[Tensor, "*shape"]

# For model heads.
BinaryLogits: TypeAlias = Float[Tensor, " batch"] | Float[Tensor, "batch 1"]  # one yes/no question
ClassLogits: TypeAlias = Float[Tensor, "batch classes"]  # one of several classes
MultiLabelLogits: TypeAlias = Float[Tensor, "batch classes"]  # several yes/no questions

# Yes/no questions, one score each: any shape, and as many labels.
Scores: TypeAlias = Annotated[Float[Tensor, "*shape"], NotProbabilities()]
Labels: TypeAlias = Annotated[
    Real[Tensor, "*shape"] | Bool[Tensor, "*shape"], Reads.AS_LABELS, Between(0, 1)
]
PerScore: TypeAlias = Annotated[Float[Tensor, "*shape"], Reads.BROADCAST]  # trailing axis if 1-D

# Several yes/no questions about each sample.
MultiLabelScores: TypeAlias = Annotated[Float[Tensor, "batch classes"], NotProbabilities()]
MultiHot: TypeAlias = Annotated[
    Real[Tensor, "batch classes"] | Bool[Tensor, "batch classes"], Reads.AS_LABELS, Between(0, 1)
]
PerLabel: TypeAlias = Annotated[Float[Tensor, "batch classes"], Reads.BROADCAST]

# One of several classes, with one score per class; the classes are the second axis.
ClassScores: TypeAlias = Annotated[Float[Tensor, "batch classes *space"], NotSoftmax()]
ClassIndices: TypeAlias = Annotated[
    Integer[Tensor, "batch *space"] | Bool[Tensor, "batch *space"],
    Reads.AS_INDICES,
    ClassIndex(),
    SomeCounted(),
]
ClassProbabilities: TypeAlias = Annotated[
    Float[Tensor, "batch classes *space"], Reads.AS_TARGETS, SumToOne()
]
PerClass: TypeAlias = Annotated[Float[Tensor, " classes"], Reads.AS_SCORES, SomeWeight()]

# The same of one sample, without a batch axis.
SampleScores: TypeAlias = Annotated[Float[Tensor, " classes"], NotProbabilities()]
SampleMultiHot: TypeAlias = Annotated[
    Real[Tensor, " classes"] | Bool[Tensor, " classes"], Reads.AS_LABELS, Between(0, 1)
]
SamplePerLabel: TypeAlias = Annotated[Float[Tensor, " classes"], Reads.BROADCAST]
SampleClassScores: TypeAlias = Annotated[Float[Tensor, " classes"], NotSoftmax()]
SampleClassIndex: TypeAlias = Annotated[
    Integer[Tensor, ""] | Bool[Tensor, ""], Reads.AS_INDICES, ClassIndex(), SomeCounted()
]
SampleClassProbabilities: TypeAlias = Annotated[
    Float[Tensor, " classes"], Reads.AS_TARGETS, SumToOne()
]
