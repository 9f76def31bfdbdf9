"""The mistakes that have a name: typed signatures that are refused with advice.

A new kind of bug is one more of them, which its kernels name. Those that are `always` mistakes are
refused although their shapes fit; the others name what fits nothing. `{loss}` is the loss that was
called and `{axis}` its class axis.
"""

import sys
from typing import Any

from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.model import Mistake
from safeloss._contract.patterns import parse
from safeloss.errors import DTypeError


def _mistake(rule: str, *, on: dict[str, Any], **said: Any) -> Mistake:
    layouts = tuple((name, parse(hint)) for name, hint in on.items())
    last = tuple((name, tuple(p.classes_last() for p in patterns)) for name, patterns in layouts)
    return Mistake(layouts, last, rule, **said)


# Softmax losses.
ONE_CLASS = _mistake(
    "`input` has one class, and the softmax of one class is 1 whatever its score.",
    on={"input": Float[Tensor, "batch classes *space"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    weak=True,
    advice="One score per sample answers a yes/no question, and that takes a sigmoid.",
    fixes=("SafeBCEWithLogitsLoss()(input, target)",),
)
SOFTMAX_OVER_THE_BATCH = _mistake(
    "a softmax over the only axis would mix the samples of the batch.",
    on={"input": Float[Tensor, " batch"], "target": Float[Tensor, "..."]},
    code=codes.ONE_SCORE,
    batched=True,
    always=True,
    advice="One score per sample answers a yes/no question, and that takes a sigmoid. "
    "One sample of class probabilities needs its batch axis.",
    fixes=("SafeBCEWithLogitsLoss()(input, target)",),
)
ONE_HOT = _mistake(
    "`target` has one number per class, as class probabilities, and those are floating.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Integer[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    },
    code=codes.ONE_HOT,
    always=True,
    error=DTypeError,
    advice="If one class is right (one-hot), give its index, or the same as floats. "
    "If several may be right at once (multi-hot), they are yes/no questions.",
    fixes=(
        "target.int().argmax({axis})",
        "target.float()",
        "MultiLabelBCE()(input, target)",
    ),
)
LINEAR_ONE_CLASS = _mistake(
    "`linear_weight` has one class, and the softmax of one class is 1 whatever its score.",
    on={"linear_weight": Float[Tensor, "classes *space features"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    advice="One score per sample answers a yes/no question, and that takes a sigmoid: "
    "a layer of its own, and SafeBCEWithLogitsLoss.",
)
LINEAR_ONE_HOT = _mistake(
    "`target` has one number per class, as class probabilities, and those are floating.",
    on={
        "input": Float[Tensor, "batch features"],
        "linear_weight": Float[Tensor, "classes *space features"],
        "target": Integer[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    },
    code=codes.ONE_HOT,
    always=True,
    error=DTypeError,
    advice="If one class is right (one-hot), give its index, or the same as floats.",
    fixes=("target.int().argmax(1)", "target.float()"),
)
LINEAR_BOOL_INDICES = _mistake(
    "`target` is bool, and can name only two of the classes.",
    on={
        "linear_weight": Float[Tensor, "classes *space features"],
        "target": Bool[Tensor, "..."],
    },
    code=codes.BOOL_INDICES,
    classes=(3, sys.maxsize),
    always=True,
    error=DTypeError,
    advice="If classes 0 and 1 are meant, say so.",
    fixes=("target.long()",),
)
LINEAR_FLOATING_INDICES = _mistake(
    "`target` has the shape of class indices, and those are integers.",
    on={
        "input": Float[Tensor, "batch features"],
        "linear_weight": Float[Tensor, "classes *space features"],
        "target": Float[Tensor, "batch *space"],
    },
    code=codes.FLOATING_INDICES,
    error=DTypeError,
    advice="If these are class indices, say so. A share or a score is no class.",
    fixes=("target.long()",),
)
BOOL_INDICES = _mistake(
    "`target` is bool, and can name only two of the classes.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Bool[Tensor, "..."],
    },
    code=codes.BOOL_INDICES,
    classes=(3, sys.maxsize),
    always=True,
    error=DTypeError,
    advice="If classes 0 and 1 are meant, say so.",
    fixes=("target.long()",),
)
BOOL_INDEX = _mistake(
    "`target` is bool, and can name only two of the classes.",
    on={
        "input": Float[Tensor, " classes"],
        "target": Bool[Tensor, ""] | Bool[Tensor, "1"],
    },
    code=codes.BOOL_INDICES,
    classes=(3, sys.maxsize),
    always=True,
    error=DTypeError,
    advice="If classes 0 and 1 are meant, say so.",
    fixes=("target.long()",),
)
ONE_SCORE = _mistake(
    "`input` has one score per sample, and a softmax needs one per class.",
    on={
        "input": Float[Tensor, " batch"],
        "target": Integer[Tensor, "_ ..."] | Bool[Tensor, "_ ..."],
    },
    code=codes.ONE_SCORE,
    advice="One score per sample answers a yes/no question, and that takes a sigmoid.",
    fixes=("SafeBCEWithLogitsLoss()(input, target)",),
)
FLOATING_INDICES = _mistake(
    "`target` has the shape of class indices, and those are integers.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Float[Tensor, "batch *space"],
    },
    code=codes.FLOATING_INDICES,
    error=DTypeError,
    advice="If these are class indices, say so. A share or a score is no class.",
    fixes=("target.long()",),
)
IGNORED_PROBABILITIES = _mistake(
    "`ignore_index` has no effect on class probabilities: every target counts.",
    on={
        "input": Float[Tensor, "batch classes *space"] | Float[Tensor, " classes"],
        "target": Float[Tensor, "batch classes *space"] | Float[Tensor, " classes"],
    },
    code=codes.IGNORED_INDEX,
    given=("ignore_index", -100),
    warns=True,
)
LOG_ONE_CLASS = _mistake(
    "`input` has one class, and the log-probability of one class is 0.",
    on={"input": Float[Tensor, "batch classes *space"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    weak=True,
    advice="One score per sample answers a yes/no question: SafeBCEWithLogitsLoss, "
    "on scores without an activation.",
)
LOG_ONE_HOT = _mistake(
    "`target` has one number per class, and one class index per sample is declared.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Integer[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    },
    code=codes.ONE_HOT,
    always=True,
    error=DTypeError,
    advice="One-hot rows: take the index. Probabilities: SafeKLDivLoss, "
    "or SafeCrossEntropyLoss on scores without an activation.",
    fixes=("target.int().argmax({axis})",),
)
# Margins.
MARGIN_ONE_CLASS = _mistake(
    "`input` has one class, and there is no other that it could win against.",
    on={"input": Float[Tensor, "batch classes"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    weak=True,
    advice="One score per sample answers a yes/no question: SafeHingeEmbeddingLoss, "
    "SafeSoftMarginLoss or SafeBCEWithLogitsLoss.",
)
BATCH_OR_CLASS_SET = _mistake(
    "`input` has one axis, and that may be the batch or the classes.",
    on={"input": Float[Tensor, " classes"], "target": Integer[Tensor, "classes 1"]},
    code=codes.BATCH_OR_CLASSES,
    batched=True,
    always=True,
    advice="One score per sample is one yes/no question: SafeBCEWithLogitsLoss.",
)
# Divergences.
BATCHMEAN_OF_ONE_SAMPLE = _mistake(
    '"batchmean" divides by the first axis, and the only one holds the classes.',
    on={"input": Float[Tensor, " classes"], "target": Shaped[Tensor, " classes"]},
    code=codes.BATCHMEAN,
    option=("reduction", "batchmean"),
    batched=True,
    warns=True,
)
# Yes/no losses.
CLASS_INDICES = _mistake(
    "`input` and `target` do not fit together.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Integer[Tensor, "batch *space"] | Integer[Tensor, "batch 1"],
    },
    code=codes.CLASS_INDICES,
    advice="These look like class indices, and they need a softmax loss, or to be one-hot.",
    fixes=(
        "SafeCrossEntropyLoss()(input, target)",
        "SafeBCEWithLogitsLoss()(input, torch.nn.functional.one_hot(target, input.shape[-1]))",
    ),
)
CLASS_INDICES_LAST = _mistake(
    "`input` and `target` do not fit together.",
    on={"input": Float[Tensor, "*batch classes"], "target": Integer[Tensor, "*batch"]},
    code=codes.CLASS_INDICES,
    advice="These look like class indices, and they need a softmax loss, or to be one-hot.",
    fixes=(
        "SafeCrossEntropyLoss(class_dim=-1)(input, target)",
        "SafeBCEWithLogitsLoss()(input, torch.nn.functional.one_hot(target, input.shape[-1]))",
    ),
)
ONE_LABEL = _mistake(
    "`input` has several scores per sample, and `target` one label.",
    on={
        "input": Float[Tensor, "*batch classes"],
        "target": Float[Tensor, "*batch"] | Bool[Tensor, "*batch"],
    },
    code=codes.ONE_LABEL,
    advice="A head for one yes/no question ends in one output. "
    "If the label is meant for every score of its sample, say so.",
    fixes=("target.unsqueeze(-1).expand_as(input)",),
)
# Several yes/no questions per sample.
BATCH_OR_LABELS = _mistake(
    "`input` has one axis, and that may be the batch or the classes.",
    on={
        "input": Float[Tensor, " classes"],
        "target": Shaped[Tensor, "classes *rest"] | Shaped[Tensor, "_ _ _ ..."],
    },
    code=codes.BATCH_OR_CLASSES,
    option=("num_classes", None),
    batched=True,
    always=True,
    advice="One score per sample is one yes/no question; "
    "for one sample with several, say how many.",
    fixes=(
        "SafeBCEWithLogitsLoss()(input, target)",
        "MultiLabelBCE(num_classes=input.shape[0])(input, target)",
    ),
)
ONE_QUESTION = _mistake(
    "`input` has one class, and that is one yes/no question, not several.",
    on={"input": Float[Tensor, "batch classes"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    fixes=("SafeBCEWithLogitsLoss()(input, target)",),
)
CLASS_INDICES_FOR_LABELS = _mistake(
    "`target` has one integer per sample, and multi-hot labels have one per class.",
    on={
        "input": Float[Tensor, "batch classes"],
        "target": Integer[Tensor, " batch"] | Integer[Tensor, "batch 1"],
    },
    code=codes.CLASS_INDICES,
    advice="These look like class indices, and they need a softmax loss, or to be one-hot.",
    fixes=(
        "SafeCrossEntropyLoss()(input, target)",
        "MultiLabelBCE()(input, torch.nn.functional.one_hot(target, input.shape[-1]))",
    ),
)


# By kernel.
CROSS_ENTROPY = (
    ONE_CLASS,
    SOFTMAX_OVER_THE_BATCH,
    ONE_HOT,
    BOOL_INDICES,
    BOOL_INDEX,
    ONE_SCORE,
    FLOATING_INDICES,
    IGNORED_PROBABILITIES,
)
LINEAR_CROSS_ENTROPY = (
    LINEAR_ONE_CLASS,
    LINEAR_ONE_HOT,
    LINEAR_BOOL_INDICES,
    LINEAR_FLOATING_INDICES,
)
NLL = (BOOL_INDICES, BOOL_INDEX, FLOATING_INDICES, LOG_ONE_CLASS, LOG_ONE_HOT)
MULTI_MARGIN = (MARGIN_ONE_CLASS,)
MULTILABEL_MARGIN = (BATCH_OR_CLASS_SET,)
KL_DIV = (BATCHMEAN_OF_ONE_SAMPLE,)
LOGITS = (CLASS_INDICES, CLASS_INDICES_LAST, ONE_LABEL)
MULTI_LABEL = (BATCH_OR_LABELS, ONE_QUESTION, CLASS_INDICES_FOR_LABELS)
