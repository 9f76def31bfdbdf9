"""A fix computes the loss that its words promise, or it is not offered.

Each row makes a mistake of tensors whose axes the row itself names, and says what each of the words
of a fix means there. An oracle that knows axes by nothing but these names judges what the fix
computes.
"""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from lines import new_line
from losses import PUBLIC
from oracle import Named, class_index_loss, elementwise_loss, named
from torch import Tensor, nn

import safeloss
from safeloss import functional as SF
from safeloss._messages.fixes import edited_argument
from safeloss.errors import Fix

C, T, H, W = 3, 4, 2, 5
BATCHES = [0, 1, 2, C, T, W, 7]  # also as many samples as there is of anything else

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass
class Meaning:
    """What is right if some words hold: a loss, and its arguments with names for their axes."""

    input: Named
    target: Named
    loss: str = ""  # another one than that which was called
    options: dict[str, Any] = field(default_factory=dict)  # of the oracle


@dataclass
class Made:
    """A mistake: the arguments as they are given, and what each fix means.

    `means` is by the words of a fix. "" stands for the fix without words: nothing else can be
    meant.
    """

    given: dict[str, Any]
    means: dict[str, Meaning] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    wanted: bool = False  # whether a fix must be offered


def of(x: Tensor, y: Any, means: dict[str, Meaning] | None = None, **made: Any) -> Made:
    return Made({"input": x, "target": y}, means or {}, **made)


def right(loss: str, meaning: Meaning, reduction: str) -> float:
    """What the oracle says."""
    loss = meaning.loss or loss
    oracle = class_index_loss if "classes" in meaning.input.axes else elementwise_loss
    return oracle(loss, meaning.input, meaning.target, reduction, **meaning.options)


def build(name: str, options: dict[str, Any]) -> nn.Module:
    return getattr(safeloss, name if name == "MultiLabelBCE" else f"Safe{name}")(**options)


def refusal(loss: Callable[..., Any], given: dict[str, Any]) -> safeloss.SafeLossError | None:
    try:
        new_line()(loss, *given.values())
    except safeloss.SafeLossError as error:
        return error
    return None


def carried_out(fix: Fix, name: str, made: Made, reduction: str) -> Tensor:
    """The loss when the user does what `fix` says: to an argument, a weight, or the call."""
    options = {**made.options, "reduction": reduction}
    weights = {key: x for key, x in options.items() if isinstance(x, Tensor)}
    names = {**weights, **made.given}
    result = eval(fix, {**PUBLIC, "safeloss": safeloss, "torch": torch, **names})
    edited = edited_argument(fix, names)
    if edited is None:
        return result
    changed = {edited: result}
    loss = build(name, {**options, **changed} if edited in weights else options)
    return new_line()(
        loss, *{**made.given, **changed}.values() if edited in made.given else made.given.values()
    )


def judge(name: str, made: Made, reduction: str = "mean") -> list[tuple[str, str]]:
    """Each fix that is offered for a mistake computes what it says; they are returned."""
    error = refusal(build(name, {**made.options, "reduction": reduction}), made.given)
    if error is None:
        return []
    for fix in error.fixes:
        assert fix.line in str(error)
        words = [key for key in made.means if key in fix.when and bool(key) == bool(fix.when)]
        if fix.when and not words and not all(x.numel() for x in made.given.values()):
            continue  # it is another mistake as well: nothing is as much as nothing
        assert len(words) == 1, f"the row does not know what this means: {fix.line}\n{error}"
        value, wanted = carried_out(fix, name, made, reduction), made.means[words[0]]
        expected = right(name, wanted, reduction)
        close = math.isclose(value.double().item(), expected, rel_tol=1e-4, abs_tol=1e-5)
        nan = math.isnan(expected) and value.isnan()
        assert close or nan, f"{fix.line}\ngives {value}, and {expected} is right"
    assert error.fixes or not made.wanted, str(error)
    return [(str(fix), fix.when) for fix in error.fixes]


# Element-wise losses ------------------------------------------------------------------------------

ELEMENT_WISE = [
    *("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss"),
    *("MultiLabelSoftMarginLoss", "SoftMarginLoss", "HingeEmbeddingLoss"),
    *("PoissonNLLLoss", "KLDivLoss"),
]


def predictions(loss: str, *shape: int) -> Tensor:
    x = torch.randn(shape)
    if loss == "BCELoss":
        return x.sigmoid()
    return -x.abs() if loss == "KLDivLoss" else x


def targets(loss: str, *shape: int) -> Tensor:
    if loss in ("SoftMarginLoss", "HingeEmbeddingLoss"):
        return torch.rand(shape).round() * 2 - 1
    return torch.rand(shape)


EACH, REPEATED = "of a sample is meant for each of its", "`target` is meant to be repeated"
FOLLOW = "numbers of a sample follow each other"


def per_sample(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, b)
    return of(x, y, {EACH: Meaning(named(x, "sample number"), named(y, "sample"))})


def per_sample_in_space(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, T, W), targets(loss, b)
    return of(x, y, {EACH: Meaning(named(x, "sample time number"), named(y, "sample"))})


def one_column(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, b, 1)
    return of(x, y, {REPEATED: Meaning(named(x, "sample number"), named(y[:, 0], "sample"))})


def one_row(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, 1, W)
    return of(x, y, {REPEATED: Meaning(named(x, "sample number"), named(y[0], "number"))})


def one_number(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss)
    return of(x, y, {REPEATED: Meaning(named(x, "sample number"), named(y, ""))})


def one_prediction(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, 1), targets(loss, b, W)
    meaning = Meaning(named(x[:, 0], "sample"), named(y, "sample number"))
    return of(x, y, {"`input` is meant to be repeated": meaning})


def crossed(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, 1), targets(loss, 1, b)
    own = Meaning(named(x[:, 0], "sample"), named(y[0], "sample"))
    pairs = Meaning(named(x[:, 0], "sample"), named(y[0], "other"))
    return of(x, y, {"has one `target` of its own": own, "shall meet every number": pairs})


def flat_input(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, H * W), targets(loss, b, H, W)
    meaning = Meaning(named(x.unflatten(1, (H, W)), "sample h w"), named(y, "sample h w"))
    return of(x, y, {"": meaning}, wanted=True)


def flat_target(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, 1, H, W), targets(loss, b, H * W)
    meaning = Meaning(named(x[:, 0], "sample h w"), named(y.unflatten(1, (H, W)), "sample h w"))
    return of(x, y, {"": meaning}, wanted=True)


def targets_in_a_row(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, b, W)
    meaning = Meaning(named(x, "sample number"), named(y, "sample number"))
    return of(x, y.flatten(), {FOLLOW: meaning})


def predictions_in_a_row(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, b, W)
    meaning = Meaning(named(x, "sample number"), named(y, "sample number"))
    return of(x.flatten(), y, {FOLLOW: meaning})


def turned(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, W, b)
    if b != 1:
        return of(x, y)
    own = Meaning(named(x[0], "number"), named(y[:, 0], "number"))
    pairs = Meaning(named(x[0], "number"), named(y[:, 0], "other"))
    return of(x, y, {"has one `target` of its own": own, "shall meet every number": pairs})


def other_samples(loss: str, b: int) -> Made:
    x, y = predictions(loss, b, W), targets(loss, b + 3, W)
    means = {}
    if b == 1:
        means["`input` is meant to be repeated"] = Meaning(
            named(x[0], "number"), named(y, "sample number")
        )
    return of(x, y, means)


def channels_last(loss: str, b: int) -> Made:
    return of(predictions(loss, b, C, W, W), targets(loss, b, W, W, C))


def no_channels(loss: str, b: int) -> Made:
    """All sizes are equal: which axis is missing cannot be told."""
    return of(predictions(loss, b, W, W, W), targets(loss, b, W, W))


SHAPES = [
    *(per_sample, per_sample_in_space, one_column, one_row, one_number, one_prediction),
    *(crossed, flat_input, flat_target, targets_in_a_row, predictions_in_a_row),
    *(turned, other_samples, channels_last, no_channels),
]


def name_of(value: Any) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("mistake", SHAPES, ids=name_of)
@pytest.mark.parametrize("loss", ELEMENT_WISE)
def test_shapes(loss: str, mistake: Callable[[str, int], Made]) -> None:
    reduction = "sum" if loss in ("KLDivLoss", "HuberLoss") else "mean"
    offered = {batch: judge(loss, mistake(loss, batch), reduction) for batch in BATCHES}
    if mistake is not turned:  # it is no mistake where it is square
        several = {str(fixes) for batch, fixes in offered.items() if batch > 1}
        assert len(several) == 1, "the fixes depend on the number of samples"


def test_no_samples_change_nothing() -> None:
    for mistake in (per_sample, one_row, flat_input, other_samples):
        empty = judge("MSELoss", mistake("MSELoss", 0), "sum")
        assert empty in ([], judge("MSELoss", mistake("MSELoss", 7), "sum"))


# Class losses -------------------------------------------------------------------------------------

CLASSES = ["CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"]


def scores(loss: str, *shape: int, axis: int = 1) -> Tensor:
    x = torch.randn(shape)
    return x.log_softmax(axis) if loss == "NLLLoss" else x


def labels(*shape: int, classes: int = C) -> Tensor:
    return torch.randint(classes, shape)


def rows(x: Tensor, y: Tensor, **options: Any) -> Meaning:
    return Meaning(named(x, "sample classes"), named(y, "sample"), options=options)


def floating_indices(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b)
    return of(x, y.float(), {"": rows(x, y)}, wanted=loss != "MultiMarginLoss" or b > 0)


def shares_of_indices(loss: str, b: int) -> Made:
    return of(scores(loss, b, C), labels(b) + 0.5)


def one_hot(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b)
    hot = torch.nn.functional.one_hot(y, C)
    several = Meaning(named(x, "sample number"), named(hot, "sample number"), "MultiLabelBCE")
    means = {"one class is right": rows(x, y), "several classes may be right": several}
    return of(x, hot, means, wanted=loss != "MultiMarginLoss")


def padded_one_hot(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b)
    hot = torch.nn.functional.one_hot(y, C)
    hot[::2] = 0
    several = Meaning(named(x, "sample number"), named(hot, "sample number"), "MultiLabelBCE")
    return of(x, hot, {"several classes may be right": several})


def padded_shares(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b)
    hot = torch.nn.functional.one_hot(y, C).float()
    hot[::2] = 0
    several = Meaning(named(x, "sample number"), named(hot, "sample number"), "MultiLabelBCE")
    means = {
        "several classes may be right": several,
        "a row of zeros has no label": rows(x[1::2], y[1::2]),
    }
    return of(x, hot, means)


def classes_last(loss: str, b: int) -> Made:
    x, y = scores(loss, b, T, C, axis=2), labels(b, T)
    meaning = Meaning(named(x, "sample time classes"), named(y, "sample time"))
    return of(x, y, {"": meaning}, wanted=loss != "MultiMarginLoss")


def classes_last_or_second(loss: str, b: int) -> Made:
    x, y = scores(loss, b, T, T), labels(b, T, classes=T)
    last = Meaning(named(x, "sample time classes"), named(y, "sample time"))
    second = Meaning(named(x, "sample classes time"), named(y, "sample time"))
    means = {"the last axis holds the classes": last, "axis 1 holds the classes": second}
    return of(x, y, means, options={"check_values": "never"} if loss == "NLLLoss" else {})


def labels_not_flat(loss: str, b: int) -> Made:
    x, y = scores(loss, b * T, C), labels(b, T)
    meaning = Meaning(named(x.unflatten(0, (b, T)), "sample time classes"), named(y, "sample time"))
    return of(x, y, {"are in the order of": meaning})


def scores_not_flat(loss: str, b: int) -> Made:
    x, y = scores(loss, b, T, C, axis=2), labels(b, T)
    meaning = Meaning(named(x, "sample time classes"), named(y, "sample time"))
    return of(x, y.flatten(), {"are in the order of": meaning, **({"": meaning} if b == 1 else {})})


def other_labels(loss: str, b: int) -> Made:
    """As many labels as there are classes are still those of other samples."""
    return of(scores(loss, b + 3, C), labels(b))


def lost_batch(loss: str, b: int) -> Made:
    x, y = scores(loss, C, b + 2, axis=0), labels(1, b + 2)
    means = {"`input` is one sample": Meaning(named(x, "classes place"), named(y[0], "place"))}
    if b + 2 == C:  # for a loss without places they may be samples
        means["are in the order of"] = Meaning(named(x, "sample classes"), named(y[0], "sample"))
    return of(x, y, means)


def from_one(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b)
    return of(x, y + 1, {"labels count from 1": rows(x, y)})


def from_one_with_unknown(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b)
    y[1::3] = -101
    return of(x, y + 1, {"labels count from 1": rows(x, y, ignored=-101)})


def marked(number: int) -> Callable[[str, int], Made]:
    def made(loss: str, b: int) -> Made:
        x, y = scores(loss, b, C), labels(b)
        y[::2] = number
        return of(x, y, {f"{number} marks unknown": rows(x, y, ignored=number)})

    made.__name__ = f"marked_by_{number}"
    return made


def black_and_white(loss: str, b: int) -> Made:
    x, y = scores(loss, b, 2), labels(b, classes=2)
    means = {
        "255 marks unknown": rows(x, y * 255, ignored=255),
        "255 is the foreground": rows(x, y),
    }
    return of(x, y * 255, means)


def signs_for_classes(loss: str, b: int) -> Made:
    x, y = scores(loss, b, 2), labels(b, classes=2)
    means = {
        "-1 marks unknown": rows(x, y * 2 - 1, ignored=-1),
        "-1 means class 0": rows(x, y),
    }
    return of(x, y * 2 - 1, means)


def grey_values(loss: str, b: int) -> Made:
    return of(scores(loss, b, C), labels(b) * 73)


def past_the_vocabulary(loss: str, b: int) -> Made:
    x, y = scores(loss, b, C), labels(b) + 1
    return of(x, y, {"labels count from 1": rows(x, y - 1)})


def a_yes_no_head(loss: str, b: int) -> Made:
    x, y = scores(loss, b, 1), labels(b, classes=2)
    logits = Meaning(named(x[:, 0], "sample"), named(y, "sample"), "BCEWithLogitsLoss")
    return of(x, y, {"": logits})


def a_squeezed_head(loss: str, b: int) -> Made:
    x, y = scores(loss, b, axis=0), labels(b, classes=2)
    logits = Meaning(named(x, "sample"), named(y, "sample"), "BCEWithLogitsLoss")
    return of(x, y, {"": logits})


def predicted_classes(loss: str, b: int) -> Made:
    return of(labels(b).float() + 1, labels(b, classes=2))


VALUES_AND_SHAPES = [
    *(floating_indices, shares_of_indices, one_hot, padded_one_hot, padded_shares, classes_last),
    *(classes_last_or_second, labels_not_flat, scores_not_flat, other_labels, lost_batch),
    *(from_one, from_one_with_unknown, marked(-1), marked(255), black_and_white),
    *(signs_for_classes, grey_values, past_the_vocabulary, a_yes_no_head, a_squeezed_head),
    predicted_classes,
]


@pytest.mark.parametrize("mistake", VALUES_AND_SHAPES, ids=name_of)
@pytest.mark.parametrize("loss", CLASSES)
def test_class_losses(loss: str, mistake: Callable[[str, int], Made]) -> None:
    for batch in BATCHES:
        judge(loss, mistake(loss, batch), "sum" if loss == "NLLLoss" else "mean")


WANTED = [
    # what is offered at least, for eight samples
    (floating_indices, "target.long()"),
    (classes_last, "SafeCrossEntropyLoss(class_dim=-1)(input, target)"),
    (classes_last_or_second, "SafeCrossEntropyLoss(class_dim=-1)(input, target)"),
    (one_hot, "target.int().argmax(1)"),
    (padded_shares, "SafeCrossEntropyLoss()(input[target.any(1)], target[target.any(1)])"),
    (labels_not_flat, "target.flatten()"),
    (scores_not_flat, "input.flatten(0, -2)"),
    (from_one_with_unknown, "target.where(target == -100, target - 1)"),
    (marked(-1), "SafeCrossEntropyLoss(ignore_index=-1)(input, target)"),
    (black_and_white, "(target == 255).long()"),
    (a_squeezed_head, "SafeBCEWithLogitsLoss()(input, target)"),
]


@pytest.mark.parametrize(("mistake", "fix"), WANTED, ids=name_of)
def test_what_is_offered(mistake: Callable[[str, int], Made], fix: str) -> None:
    offered = [code for code, _ in judge("CrossEntropyLoss", mistake("CrossEntropyLoss", 16))]
    assert fix in offered


OPTIONS = [
    {"label_smoothing": 0.1},
    {"ignore_index": 1},
    {"weight": torch.tensor([0.5, 2.0, 1.0])},
    {"ignore_index": 1, "label_smoothing": 0.2, "weight": torch.tensor([0.5, 2.0, 1.0])},
]
ORACLE = {"label_smoothing": "smoothing", "ignore_index": "ignored"}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "mistake",
    [floating_indices, one_hot, classes_last, labels_not_flat, a_yes_no_head],
    ids=name_of,
)
def test_options_and_weights_are_kept(mistake, options: dict[str, Any], reduction: str) -> None:
    """Where another loss has no such option, it is not offered."""
    made = mistake("CrossEntropyLoss", 5)
    made.options |= options
    for meaning in made.means.values():
        meaning.options |= {ORACLE.get(k, k): value for k, value in options.items()}
        if "weight" in options:
            meaning.options["weight"] = named(options["weight"], "classes")
        if meaning.loss:
            meaning.loss = "nothing that could be offered"
    judge("CrossEntropyLoss", made, reduction)


def test_another_loss_gets_the_options_that_it_has() -> None:
    loss = safeloss.SafeCrossEntropyLoss(reduction="sum", check_values="always")
    x, y = torch.randn(4), torch.tensor([0, 1, 1, 0])
    error = refusal(loss, {"input": x, "target": y})
    assert error is not None
    (fix,) = error.fixes
    assert "reduction='sum'" in fix
    assert "check_values='always'" in fix


# Numbers ------------------------------------------------------------------------------------------


def pair(x: Tensor, y: Tensor) -> Meaning:
    return Meaning(named(x, "sample number"), named(y, "sample number"))


def numbers(b: int) -> Tensor:
    """Answers to yes/no questions, of either kind."""
    y = torch.rand(b, C).round()
    y.view(-1)[:2] = torch.tensor([0.0, 1.0])
    return y


NUMBERS: dict[str, Callable[[int], tuple[str, Made]]] = {}


def row(make: Callable[[int], tuple[str, Made]]) -> None:
    NUMBERS[make.__name__] = make


for _loss in ("BCEWithLogitsLoss", "BCELoss", "MultiLabelBCE", "MultiLabelSoftMarginLoss"):

    def signs(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        return loss, of(x, y * 2 - 1, {"": pair(x, y)}, wanted=True)

    def ones_and_twos(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        return loss, of(x, y + 1, {"2 means yes": pair(x, y)}, wanted=True)

    def full_bytes(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        return loss, of(x, y.mul(255).byte(), {"255 means yes": pair(x, y)}, wanted=True)

    def images(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, 40), (torch.arange(b * 40).view(b, 40) * 7 % 256).float()
        return loss, of(x, y, {"is an image": pair(x, y / 255)}, wanted=True)

    def unknown_labels(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        y[-1] = -1  # where it is the only sample, all labels are
        return loss, of(x, y, {"-1 means no": pair(x, y * 0)} if b == 1 else {})

    def class_numbers(b: int, loss: str = _loss) -> tuple[str, Made]:
        return loss, of(predictions(loss, b, C), numbers(b) * 3)

    def missing(b: int, loss: str = _loss) -> tuple[str, Made]:
        y = numbers(b)
        y[0, 0] = math.nan
        x = predictions(loss, b, C)
        known = [named(numbers.flatten()[1:], "number") for numbers in (x, y)]
        means = {"NaN marks targets that are missing": Meaning(*known)}
        return loss, of(x, y, means, wanted=loss != "MultiLabelSoftMarginLoss")

    for _make in (signs, ones_and_twos, full_bytes, images, unknown_labels, class_numbers, missing):
        NUMBERS[f"{_make.__name__}-{_loss}"] = _make


for _loss in ("SoftMarginLoss", "HingeEmbeddingLoss"):

    def answers(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        return loss, of(x, y, {"": pair(x, y * 2 - 1)}, wanted=True)

    def answers_as_bytes(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        return loss, of(x, y.byte(), {"": pair(x, y * 2 - 1)}, wanted=True)

    def kinds(b: int, loss: str = _loss) -> tuple[str, Made]:
        x, y = predictions(loss, b, C), numbers(b)
        return loss, of(x, y + 1, {"2 means yes": pair(x, y * 2 - 1)}, wanted=True)

    for _make in (answers, answers_as_bytes, kinds):
        NUMBERS[f"{_make.__name__}-{_loss}"] = _make


@row
def raw_scores_in_bce(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C), numbers(b)
    x[0, 0] = -1.5
    means = {key: pair(x.sigmoid(), y) for key in ("", "`input` holds scores")}
    return "BCELoss", of(x, y, means, wanted=True)


@row
def off_by_rounding_in_bce(b: int) -> tuple[str, Made]:
    x, y = torch.rand(b, C), numbers(b)
    x[0, 0] = 1.0000002
    return "BCELoss", of(x, y, {"": pair(x.clamp(0, 1), y)}, wanted=True)


@row
def raw_scores_in_nll(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C), labels(b)
    x[0, 0], x[0, 1] = 1.5, -1.5
    return "NLLLoss", of(x, y, {"": rows(x.log_softmax(1), y)}, wanted=True)


@row
def probabilities_in_nll(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C).softmax(1), labels(b)
    return "NLLLoss", of(x, y, {"": rows(x.log(), y)}, wanted=True)


@row
def sigmoids_in_nll(b: int) -> tuple[str, Made]:
    return "NLLLoss", of(torch.randn(b, C).sigmoid(), labels(b))


@row
def probabilities_over_samples_in_nll(b: int) -> tuple[str, Made]:
    """Where there is one sample, they are ones, and say nothing."""
    return "NLLLoss", of(torch.randn(b, C).softmax(0) * 1.0001, labels(b))


@row
def probabilities_in_kl(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C).softmax(1), torch.randn(b, C).softmax(1)
    return "KLDivLoss", of(x, y, {"": pair(x.log(), y)}, wanted=True)


@row
def raw_scores_in_kl(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C) * 3, torch.randn(b, C).softmax(1)
    x[0, 0], x[0, 1] = 1.5, -1.5
    return "KLDivLoss", of(x, y, {"": pair(x.log_softmax(1), y)}, wanted=True)


@row
def raw_scores_in_kl_over_channels(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C, T) * 3, torch.randn(b, C, T).softmax(1)
    x[0, 0, 0], x[0, 1, 0] = 1.5, -1.5
    means = {"": Meaning(named(x.log_softmax(1), "a b c"), named(y, "a b c"))}
    return "KLDivLoss", of(x, y, means, wanted=True)


@row
def swapped_in_kl(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C).log_softmax(1), torch.randn(b, C).softmax(1)
    return "KLDivLoss", of(y, x, {"": pair(x, y), "holds logarithms": pair(y.log(), x.exp())})


@row
def logarithms_of_rates(b: int) -> tuple[str, Made]:
    x, y = torch.randn(b, C), numbers(b)
    made = of(x, y, {"`input` holds logarithms": pair(x, y)}, wanted=True)
    x[0, 0] = -1.5
    made.options["log_input"] = False
    return "PoissonNLLLoss", made


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("batch", [1, 2, C, 8])
def test_numbers(name: str, batch: int) -> None:
    loss, made = NUMBERS[name](batch)
    judge(loss, made, "sum" if loss == "KLDivLoss" else "mean")


# Arguments in the wrong order ---------------------------------------------------------------------


def swaps(b: int) -> list[tuple[str, Made]]:
    """Labels first; what is right is the swap."""
    found = []
    for loss in ("BCELoss", "BCEWithLogitsLoss"):
        for dtype in (torch.float32, torch.int64, torch.bool):
            x, y = predictions(loss, b, C).requires_grad_(), numbers(b)
            found.append((loss, of(y.to(dtype), x, {"": pair(x.detach(), y)}, wanted=True)))
    for loss in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"):
        x, y = scores(loss, b, C).requires_grad_(), labels(b)
        found.append((loss, of(y, x, {"": rows(x.detach(), y)}, wanted=True)))
    for loss in ("SoftMarginLoss", "HingeEmbeddingLoss"):
        x, y = predictions(loss, b, C).requires_grad_(), numbers(b) * 2 - 1
        found.append((loss, of(y, x, {"": pair(x.detach(), y)}, wanted=True)))
    return found


@pytest.mark.parametrize("batch", [2, C, 8])
@pytest.mark.parametrize("place", range(11))
def test_labels_before_scores(batch: int, place: int) -> None:
    loss, made = swaps(batch)[place]
    error = refusal(build(loss, {}), made.given)
    assert error is not None
    assert "order" in str(error)
    assert len(judge(loss, made)) == 1


def test_what_is_no_swap() -> None:
    """Two models learn from each other, labels are learnt, predictions are classes."""
    p, q = torch.rand(8, requires_grad=True), torch.rand(8, requires_grad=True)
    assert refusal(safeloss.SafeBCELoss(), {"input": p, "target": q}) is None
    assert refusal(safeloss.SafeBCELoss(), {"input": p.detach(), "target": q}) is None
    assert refusal(safeloss.SafeMSELoss(), {"input": labels(8).float(), "target": q}) is None
    hard, soft = torch.randint(C, (8,)), torch.randn(8, C).softmax(1)
    error = refusal(safeloss.SafeCrossEntropyLoss(), {"input": hard, "target": soft})
    assert error is not None
    assert not error.fixes
    assert "argmax" in str(error)


# Weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["BCELoss", "BCEWithLogitsLoss", "MultiLabelBCE"])
@pytest.mark.parametrize("batch", [1, 2, T, 7])
def test_a_weight_per_sample(loss: str, batch: int) -> None:
    x, y, w = predictions(loss, batch, C), numbers(batch), torch.rand(batch)
    meaning = pair(x, y)
    meaning.options["weight"] = named(w, "sample")
    judge(loss, of(x, y, {"": meaning}, options={"weight": w}, wanted=batch > 1))


@pytest.mark.parametrize("batch", [1, 2, C, 7])
def test_a_weight_per_channel(batch: int) -> None:
    x, y, w = torch.randn(batch, C, T), torch.rand(batch, C, T), torch.rand(C)
    meaning = Meaning(named(x, "sample channel time"), named(y, "sample channel time"))
    meaning.options["weight"] = named(w, "channel")
    made = of(x, y, {"each index of axis 1": meaning}, options={"weight": w}, wanted=True)
    judge("BCEWithLogitsLoss", made)


@pytest.mark.parametrize("batch", [2, 5])
def test_class_weights(batch: int) -> None:
    """A column of them is a row; any other number of them is no fix, but both numbers are said."""
    x, y, w = torch.randn(batch, C), labels(batch), torch.rand(C)
    meaning = rows(x, y, weight=named(w, "classes"))
    judge("CrossEntropyLoss", of(x, y, {"": meaning}, options={"weight": w[:, None]}, wanted=True))
    made = of(x, y, options={"weight": torch.rand(7)})
    error = refusal(build("CrossEntropyLoss", made.options), made.given)
    assert error is not None
    assert not error.fixes
    assert f"7 numbers, `input` {C} classes" in str(error)


# The object ---------------------------------------------------------------------------------------


def test_a_fix_is_a_string_with_a_meaning() -> None:
    fix = Fix("target - 1", "labels count from 1")
    assert fix == "target - 1"
    assert fix.line == "Fix, if labels count from 1: target - 1"
    assert Fix("target.long()").line == "Fix: target.long()"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(fix, protocol))
        assert (type(other), other, other.when) == (Fix, fix, fix.when)
    for other in (copy.copy(fix), copy.deepcopy([fix])[0]):
        assert (type(other), other, other.when) == (Fix, fix, fix.when)


def test_functions_offer_the_same() -> None:
    x, y = torch.randn(4, T, C), labels(4, T)
    error = refusal(SF.cross_entropy, {"input": x, "target": y})
    assert error is not None
    assert error.fixes == ("safeloss.functional.cross_entropy(input, target, class_dim=-1)",)


@pytest.mark.parametrize("size", [3, 300])
def test_pytorch_is_quoted_only_where_it_was_asked(size: int) -> None:
    """With these very arguments, if they are few."""
    x, y = torch.randn(size, 5), torch.tensor([0] * (size - 1) + [5])
    error = refusal(safeloss.SafeCrossEntropyLoss(), {"input": x, "target": y})
    assert error is not None
    assert ("PyTorch: cross_entropy raises IndexError." in str(error)) == (size == 3)
