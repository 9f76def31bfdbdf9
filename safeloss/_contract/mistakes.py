"""The mistakes that have a name: typed signatures that are refused with advice.

A new kind of bug is one more of them, which its kernels name. Those that are `always` mistakes are
refused although their shapes fit; the others name what fits nothing. In the code of a fix `{loss}`
is the loss that was called and `{axis}` its class axis. A fix that is another loss gets the options
of the call.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.labels import are_one_hot, are_probabilities, are_whole
from safeloss._contract.model import Check, Mistake, Offer
from safeloss._contract.patterns import parse
from safeloss.errors import DTypeError


def _mistake(rule: str, *, on: dict[str, Any], **said: Any) -> Mistake:
    layouts = tuple((name, parse(hint)) for name, hint in on.items())
    last = tuple((name, tuple(p.classes_last() for p in patterns)) for name, patterns in layouts)
    return Mistake(layouts, last, rule, **said)


def _is_one_hot(tensors: Mapping[str, Tensor], axis: int) -> bool:
    return are_one_hot(tensors["target"], axis)


def _is_whole(tensors: Mapping[str, Tensor], axis: int) -> bool:
    return are_whole(tensors["target"])


def _exceeds_one(tensors: Mapping[str, Tensor], axis: int) -> bool:
    """Whether a label is 2 or more, so that it is no answer to a yes/no question."""
    return bool((tensors["target"] > 1).any())


def _input_is_scores(tensors: Mapping[str, Tensor], axis: int) -> bool:
    """Whether the scores are no class numbers, which `argmax` would give."""
    scores = tensors["input"]
    return scores.requires_grad or not are_whole(scores) or not bool(scores.any())


def _readable(tensors: Mapping[str, Tensor], axis: int) -> bool:
    """Whether there are numbers, which the other loss has then accepted."""
    return True


def _is_class_of_softmax(tensors: Mapping[str, Tensor], axis: int) -> bool:
    return are_whole(tensors["target"]) and are_probabilities(tensors["input"], 1)


_SIGMOID = (
    "One score per sample answers a yes/no question, and that needs a sigmoid, not a softmax."
)
_QUESTION = Offer(
    "SafeBCEWithLogitsLoss()(input, target)",
    "each score answers a yes/no question",
    needs=_input_is_scores,
    sure=_readable,
)
_ONE_HOT_INDEX = "one class is right for each sample (one-hot)"
_INDICES = Offer("target.long()", "the numbers are class indices", needs=_is_whole, sure=_is_whole)
_BOOL_INDICES = Offer("target.long()", "False is class 0 and True is class 1")
_LOOK_LIKE_INDICES = (
    "`target` looks like class indices, and class indices need a softmax loss, or to be one-hot."
)
_EACH_CLASS = "each class is a yes/no question of its own"
_TO_ONE_HOT = (
    "{loss}(input, torch.nn.functional.one_hot(target.flatten().long(), input.shape[1])"
    ".to(input.dtype))"
)
_FOR_EACH = "target.reshape(-1, 1).expand_as(input)"
_OF_A_SAMPLE = "the `target` of a sample is meant for each of its numbers"
_LOGARITHM = Offer(
    "SafeNLLLoss()(input.log(), target.long())",
    "`input` comes out of a softmax over the classes, of which one is right",
    needs=_is_class_of_softmax,
)
_ONE_INTEGER = {
    "input": Float[Tensor, "batch classes"],
    "target": Integer[Tensor, " batch"] | Integer[Tensor, "batch 1"],
}
_ONE_NUMBER = {
    "input": Float[Tensor, "batch classes"],
    "target": Float[Tensor, " batch"] | Bool[Tensor, " batch"],
}


# Softmax losses.
ONE_CLASS = _mistake(
    "`input` has one class, and the softmax of one class is always 1.",
    on={"input": Float[Tensor, "batch classes *space"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    weak=True,
    advice=_SIGMOID,
    fixes=(_QUESTION,),
)
SOFTMAX_OVER_THE_BATCH = _mistake(
    "`input` has one axis, and a softmax over it would mix the samples of the batch.",
    on={"input": Float[Tensor, " batch"], "target": Float[Tensor, "..."]},
    code=codes.ONE_SCORE,
    batched=True,
    always=True,
    advice=f"{_SIGMOID} One sample of class probabilities needs a batch axis.",
    fixes=(
        Offer(_QUESTION.code, _QUESTION.when, needs=_input_is_scores),
        Offer(
            "{loss}(input.unsqueeze(0), target.unsqueeze(0))",
            "the scores are those of one sample, and `target` has its class probabilities",
        ),
    ),
)
ONE_HOT = _mistake(
    "`target` has one whole number for each class. Class indices are one number for each sample, "
    "and class probabilities are floating.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Integer[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    },
    code=codes.ONE_HOT,
    always=True,
    error=DTypeError,
    fixes=(
        Offer("target.int().argmax({axis})", _ONE_HOT_INDEX, needs=_is_one_hot),
        Offer(
            "MultiLabelBCE()(input, target)",
            "several classes may be right at once (multi-hot)",
            needs=_input_is_scores,
        ),
    ),
)
LINEAR_ONE_CLASS = _mistake(
    "`linear_weight` has one class, and the softmax of one class is always 1.",
    on={"linear_weight": Float[Tensor, "classes *space features"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    advice=f"{_SIGMOID} Use a linear layer and SafeBCEWithLogitsLoss.",
)
LINEAR_ONE_HOT = _mistake(
    ONE_HOT.rule,
    on={
        "input": Float[Tensor, "batch features"],
        "linear_weight": Float[Tensor, "classes *space features"],
        "target": Integer[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    },
    code=codes.ONE_HOT,
    always=True,
    error=DTypeError,
    fixes=(Offer("target.int().argmax(1)", _ONE_HOT_INDEX, needs=_is_one_hot),),
)
LINEAR_BOOL_INDICES = _mistake(
    "`target` is bool, which can name only two of the classes.",
    on={
        "linear_weight": Float[Tensor, "classes *space features"],
        "target": Bool[Tensor, "..."],
    },
    code=codes.BOOL_INDICES,
    classes=(3, sys.maxsize),
    always=True,
    error=DTypeError,
    fixes=(_BOOL_INDICES,),
)
LINEAR_FLOATING_INDICES = _mistake(
    "`target` has the shape of class indices, and class indices are integers.",
    on={
        "input": Float[Tensor, "batch features"],
        "linear_weight": Float[Tensor, "classes *space features"],
        "target": Float[Tensor, "batch *space"],
    },
    code=codes.FLOATING_INDICES,
    error=DTypeError,
    advice="Class probabilities would need one number for each class.",
    fixes=(_INDICES,),
)
BOOL_INDICES = _mistake(
    "`target` is bool, which can name only two of the classes.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Bool[Tensor, "..."],
    },
    code=codes.BOOL_INDICES,
    classes=(3, sys.maxsize),
    always=True,
    error=DTypeError,
    fixes=(_BOOL_INDICES,),
)
BOOL_INDEX = _mistake(
    "`target` is bool, which can name only two of the classes.",
    on={
        "input": Float[Tensor, " classes"],
        "target": Bool[Tensor, ""] | Bool[Tensor, "1"],
    },
    code=codes.BOOL_INDICES,
    classes=(3, sys.maxsize),
    always=True,
    error=DTypeError,
    fixes=(_BOOL_INDICES,),
)
ONE_SCORE = _mistake(
    "`input` has one score for each sample, and a softmax needs one for each class.",
    on={
        "input": Float[Tensor, " batch"],
        "target": Integer[Tensor, "_ ..."] | Bool[Tensor, "_ ..."],
    },
    code=codes.ONE_SCORE,
    advice=f"{_SIGMOID} If `input` comes out of `argmax`, pass the scores from before it.",
    fixes=(_QUESTION,),
)
FLOATING_INDICES = _mistake(
    "`target` has the shape of class indices, and class indices are integers.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Float[Tensor, "batch *space"],
    },
    code=codes.FLOATING_INDICES,
    error=DTypeError,
    advice="Class probabilities would need one number for each class.",
    fixes=(_INDICES,),
)
IGNORED_PROBABILITIES = _mistake(
    "`ignore_index` has no effect on class probabilities: every target counts.",
    on={"target": Float[Tensor, "..."]},
    code=codes.IGNORED_INDEX,
    given=("ignore_index", -100),
    warns=True,
)
LOG_ONE_CLASS = _mistake(
    "`input` has one class, and the log-probability of one class is always 0.",
    on={"input": Float[Tensor, "batch classes *space"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    weak=True,
    advice="One score per sample answers a yes/no question. Use SafeBCEWithLogitsLoss, "
    "and no log-softmax before it.",
)
LOG_ONE_HOT = _mistake(
    "`target` has one whole number for each class, and this loss takes one class index for each "
    "sample.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Integer[Tensor, "batch classes *space"] | Bool[Tensor, "batch classes *space"],
    },
    code=codes.ONE_HOT,
    always=True,
    error=DTypeError,
    fixes=(Offer("target.int().argmax({axis})", _ONE_HOT_INDEX, needs=_is_one_hot),),
)
# Margins.
MARGIN_ONE_CLASS = _mistake(
    "`input` has one class, and this loss compares the right class with others.",
    on={"input": Float[Tensor, "batch classes"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    weak=True,
    advice="One score per sample answers a yes/no question. Use SafeHingeEmbeddingLoss, "
    "SafeSoftMarginLoss or SafeBCEWithLogitsLoss.",
)
BATCH_OR_CLASS_SET = _mistake(
    "`input` has one axis, which may be the batch or the classes.",
    on={"input": Float[Tensor, " classes"], "target": Integer[Tensor, "classes 1"]},
    code=codes.BATCH_OR_CLASSES,
    batched=True,
    always=True,
    advice="One score per sample answers a yes/no question. Use SafeBCEWithLogitsLoss.",
)
# Divergences.
BATCHMEAN_OF_ONE_SAMPLE = _mistake(
    '`reduction="batchmean"` divides by the first axis, and here that holds the classes.',
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
        "input": Float[Tensor, "batch classes"],
        "target": Integer[Tensor, " batch"] | Integer[Tensor, "batch 1"],
    },
    code=codes.CLASS_INDICES,
    advice=_LOOK_LIKE_INDICES,
    fixes=(
        Offer(
            "SafeCrossEntropyLoss()(input, target)",
            "one class is right for each sample",
            sure=_exceeds_one,
        ),
        Offer(
            "{loss}(input, torch.nn.functional.one_hot(target.flatten().long(), input.shape[1]))",
            _EACH_CLASS,
        ),
    ),
)
CLASS_INDICES_IN_SPACE = _mistake(
    "`input` and `target` do not fit together.",
    on={
        "input": Float[Tensor, "batch classes *space"],
        "target": Integer[Tensor, "batch *space"] | Integer[Tensor, "batch 1 *space"],
    },
    code=codes.CLASS_INDICES,
    advice=_LOOK_LIKE_INDICES,
    fixes=(
        Offer(
            "SafeCrossEntropyLoss()(input, target)",
            "one class is right for each place",
            sure=_exceeds_one,
        ),
    ),
)
CLASS_INDICES_LAST = _mistake(
    "`input` and `target` do not fit together.",
    on={"input": Float[Tensor, "*batch classes"], "target": Integer[Tensor, "*batch"]},
    code=codes.CLASS_INDICES,
    advice=_LOOK_LIKE_INDICES,
    fixes=(
        Offer(
            "SafeCrossEntropyLoss(class_dim=-1)(input, target)",
            "the last axis of `input` holds the classes, of which one is right",
        ),
        Offer(
            "{loss}(input, torch.nn.functional.one_hot(target.long(), input.shape[-1]))",
            "the last axis of `input` holds the classes, each a yes/no question of its own",
        ),
    ),
)
NUMBERS_OR_INDICES = _mistake(
    "`input` and `target` do not fit together.",
    on=_ONE_INTEGER,
    code=codes.CLASS_INDICES,
    advice="If `target` holds class indices, they need a softmax loss, or to be one-hot.",
    fixes=(
        Offer(
            "SafeCrossEntropyLoss()(input, target)",
            "`input` has one score for each class, of which one is right",
        ),
        Offer(_TO_ONE_HOT, "`input` shall be 1 for the right class and 0 for the others"),
        Offer(_FOR_EACH, _OF_A_SAMPLE),
    ),
)
PROBABILITIES_OR_INDICES = _mistake(
    "`input` and `target` do not fit together.",
    on=_ONE_INTEGER,
    code=codes.CLASS_INDICES,
    advice="If `target` holds class indices, they need another loss, or to be one-hot.",
    fixes=(_LOGARITHM, Offer(_TO_ONE_HOT, _EACH_CLASS), Offer(_FOR_EACH, _OF_A_SAMPLE)),
)
INDICES_FOR_SHARES = _mistake(
    "`input` and `target` do not fit together.",
    on=_ONE_INTEGER,
    code=codes.CLASS_INDICES,
    option=("log_target", False),
    advice="This loss needs a probability for each class.",
    fixes=(Offer(_TO_ONE_HOT, "one class is right for each sample"),),
)
ONE_LABEL = _mistake(
    "`input` has several scores for each sample, and `target` has one label.",
    on=_ONE_NUMBER,
    code=codes.ONE_LABEL,
    advice="A model for one yes/no question ends in one output.",
    fixes=(
        Offer(
            "target.unsqueeze(-1).expand_as(input)",
            "the label of a sample is meant for each of its scores",
        ),
    ),
)
ONE_LABEL_OF_SOFTMAX = _mistake(
    ONE_LABEL.rule,
    on=_ONE_NUMBER,
    code=codes.ONE_LABEL,
    advice=ONE_LABEL.advice,
    fixes=(_LOGARITHM, *ONE_LABEL.fixes),
)
# Sequences.
SAMPLES_FIRST = _mistake(
    "`log_probs` has its time axis first, then that of the samples.",
    on={
        "log_probs": Float[Tensor, "batch time classes"],
        "targets": Integer[Tensor, "batch _"],
    },
    code=codes.DO_NOT_FIT,
    fixes=(Offer("log_probs.transpose(0, 1)", "the first axis of `log_probs` holds the samples"),),
)
# Several yes/no questions per sample.
BATCH_OR_LABELS = _mistake(
    "`input` has one axis, which may be the batch or the classes.",
    on={
        "input": Float[Tensor, " classes"],
        "target": Shaped[Tensor, "classes *rest"] | Shaped[Tensor, "_ _ _ ..."],
    },
    code=codes.BATCH_OR_CLASSES,
    option=("num_classes", None),
    batched=True,
    always=True,
    fixes=(
        Offer("SafeBCEWithLogitsLoss()(input, target)", "each sample has one score"),
        Offer(
            "{loss}(num_classes=input.shape[0])",
            "the scores are those of one sample, one for each class",
        ),
    ),
)
ONE_QUESTION = _mistake(
    "`input` has one class, and this loss is for several yes/no questions about each sample.",
    on={"input": Float[Tensor, "batch classes"] | Float[Tensor, " classes"]},
    code=codes.ONE_CLASS,
    classes=(0, 1),
    always=True,
    fixes=(Offer("SafeBCEWithLogitsLoss()(input, target)"),),
)
CLASS_INDICES_FOR_LABELS = _mistake(
    "`target` has one integer for each sample, and this loss takes one label for each class.",
    on={
        "input": Float[Tensor, "batch classes"],
        "target": Integer[Tensor, " batch"] | Integer[Tensor, "batch 1"],
    },
    code=codes.CLASS_INDICES,
    advice=_LOOK_LIKE_INDICES,
    fixes=CLASS_INDICES.fixes,
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
KL_DIV = (BATCHMEAN_OF_ONE_SAMPLE, INDICES_FOR_SHARES)
NUMBERS = (NUMBERS_OR_INDICES,)
PROBABILITIES = (PROBABILITIES_OR_INDICES, ONE_LABEL_OF_SOFTMAX)
SEQUENCES = (SAMPLES_FIRST,)
LOGITS = (CLASS_INDICES, CLASS_INDICES_IN_SPACE, CLASS_INDICES_LAST, ONE_LABEL)
MULTI_LABEL = (BATCH_OR_LABELS, ONE_QUESTION, CLASS_INDICES_FOR_LABELS)


def in_names(rows: tuple[Mistake, ...], input: str, target: str) -> tuple[Mistake, ...]:
    """`rows` for a loss whose first tensor and whose target have other names."""
    names = {"input": input, "target": target}

    def renamed(text: str) -> str:
        return re.sub(r"\b(input|target)\b", lambda found: names[found[0]], text)

    def asked(check: Check | None) -> Check | None:
        if check is None:
            return None
        return lambda tensors, axis: check(
            {**tensors, "input": tensors[input], "target": tensors[target]}, axis
        )

    def offer(each: Offer) -> Offer:
        return Offer(renamed(each.code), renamed(each.when), asked(each.needs), asked(each.sure))

    return tuple(
        row._replace(
            layouts=tuple((names[name], patterns) for name, patterns in row.layouts),
            layouts_last=tuple((names[name], patterns) for name, patterns in row.layouts_last),
            rule=renamed(row.rule),
            advice=renamed(row.advice),
            fixes=tuple(offer(each) for each in row.fixes),
        )
        for row in rows
    )
