"""Fixes of losses of several inputs compute what their words promise, by the oracle of axes.

As `test_fixes`: each row names the axes of its own tensors, and says what the words of a fix mean.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from lines import new_line
from losses import PUBLIC
from oracle import (
    Named,
    cosine_embedding_loss,
    ctc_loss,
    gaussian_nll_loss,
    margin_ranking_loss,
    named,
    triplet_margin_loss,
)
from torch import Tensor

import safeloss
from safeloss._messages.fixes import edited_argument

D = 3  # also a number of samples below
BATCHES = [1, 2, D, 5]

pytestmark = pytest.mark.filterwarnings("ignore")

Right = dict[str, Named]


class Loss(NamedTuple):
    """A loss, and the names of its inputs."""

    build: Callable[..., Any]
    oracle: Callable[..., float]
    inputs: tuple[str, ...]


RANKING = Loss(safeloss.SafeMarginRankingLoss, margin_ranking_loss, ("input1", "input2", "target"))
COSINE = Loss(
    safeloss.SafeCosineEmbeddingLoss, cosine_embedding_loss, ("input1", "input2", "target")
)
TRIPLET = Loss(
    safeloss.SafeTripletMarginLoss, triplet_margin_loss, ("anchor", "positive", "negative")
)
GAUSS = Loss(safeloss.SafeGaussianNLLLoss, gaussian_nll_loss, ("input", "target", "var"))
CTC = Loss(
    safeloss.SafeCTCLoss,
    ctc_loss,
    ("log_probs", "targets", "input_lengths", "target_lengths"),
)

# A loss, its arguments as they are given, what each of the words of a fix means, and whether a fix
# must be offered where there are several samples.
Made = tuple[Loss, tuple[Any, ...], dict[str, Right], bool]
Row = Callable[[int], Made]
ROWS: dict[str, Row] = {}


def row(make: Row) -> Row:
    ROWS[make.__name__] = make
    return make


def signs(*shape: int) -> Tensor:
    y = torch.rand(shape).round()
    if y.numel() > 1:
        y.view(-1)[:2] = torch.tensor([0.0, 1.0])
    return y * 2 - 1


def right(loss: Loss, *inputs: Named) -> Right:
    return dict(zip(loss.inputs, inputs, strict=True))


EACH, REPEATED = "of a sample is meant for each of its", "is meant to be repeated"
PAIRS = "shall meet every number"


@row
def one_order_for_several_scores(b: int) -> Made:
    x, z, y = torch.randn(b, D), torch.randn(b, D), signs(b)
    axes = "sample number", "sample number", "sample"
    return RANKING, (x, z, y), {EACH: right(RANKING, *map(named, (x, z, y), axes))}, True


@row
def one_column_of_orders(b: int) -> Made:
    x, z, y = torch.randn(b, D), torch.randn(b, D), signs(b, 1)
    axes = "sample number", "sample number", "sample"
    meaning = right(RANKING, *map(named, (x, z, y[:, 0]), axes))
    return RANKING, (x, z, y), {REPEATED: meaning}, True


@row
def one_row_of_scores(b: int) -> Made:
    x, z, y = torch.randn(b, D), torch.randn(1, D), signs(b, D)
    axes = "sample number", "number", "sample number"
    return RANKING, (x, z, y), {REPEATED: right(RANKING, *map(named, (x, z[0], y), axes))}, True


@row
def every_score_and_every_other(b: int) -> Made:
    x, z, y = torch.randn(b, 1), torch.randn(1, b), signs(b)
    # The fix meets as torch does: an order belongs to the second of the two.
    meaning = right(RANKING, *map(named, (x[:, 0], z[0], y), ("one", "other", "other")))
    return RANKING, (x, z, y), {PAIRS: meaning}, False


@row
def orders_as_answers(b: int) -> Made:
    x, z, y = torch.randn(b), torch.randn(b), signs(b)
    y[0] = -1
    meaning = right(RANKING, *[named(each, "sample") for each in (x, z, y)])
    return RANKING, (x, z, (y + 1) / 2), {"0 stands for -1": meaning}, True


@row
def orders_that_count_from_1(b: int) -> Made:
    x, z, y = torch.randn(b), torch.randn(b), signs(b)
    y[0] = 1
    meaning = right(RANKING, *[named(each, "sample") for each in (x, z, y)])
    return RANKING, (x, z, (y + 3) / 2), {"2 means yes": meaning}, False


def embeddings(*given: Tensor) -> Right:
    axes = "sample feature", "sample feature", "sample"
    return right(COSINE, *map(named, given, axes))


@row
def one_vector_for_all(b: int) -> Made:
    x, z, y = torch.randn(b, D), torch.randn(1, D), signs(b)
    meaning = right(COSINE, named(x, "sample feature"), named(z[0], "feature"), named(y, "sample"))
    return COSINE, (x, z, y), {REPEATED: meaning}, False


@row
def similar_as_answers(b: int) -> Made:
    x, z, y = torch.randn(b, D), torch.randn(b, D), signs(b)
    y[0] = -1
    meaning = embeddings(x, z, y)
    return COSINE, (x, z, (y + 1) / 2), {"0 stands for -1": meaning}, True


@row
def similar_as_bools(b: int) -> Made:
    x, z, y = torch.randn(b, D), torch.randn(b, D), signs(b)
    return COSINE, (x, z, y > 0), {"False stands for -1": embeddings(x, z, y)}, False


@row
def one_negative_for_all(b: int) -> Made:
    a, p, n = torch.randn(b, D), torch.randn(b, D), torch.randn(1, D)
    axes = "sample feature", "sample feature", "feature"
    return TRIPLET, (a, p, n), {REPEATED: right(TRIPLET, *map(named, (a, p, n[0]), axes))}, True


@row
def one_anchor_for_all(b: int) -> Made:
    a, p, n = torch.randn(1, D), torch.randn(b, D), torch.randn(b, D)
    axes = "feature", "sample feature", "sample feature"
    return TRIPLET, (a, p, n), {REPEATED: right(TRIPLET, *map(named, (a[0], p, n), axes))}, True


@row
def negatives_of_other_samples(b: int) -> Made:
    a, p, n = torch.randn(b, D), torch.randn(b, D), torch.randn(b + 2, D)
    if b > 1:
        return TRIPLET, (a, p, n), {}, False
    axes = "feature", "feature", "other feature"
    return TRIPLET, (a, p, n), {REPEATED: right(TRIPLET, *map(named, (a[0], p[0], n), axes))}, False


def means(*given: Tensor, axes: str = "sample output") -> Right:
    return right(GAUSS, *[named(each, axes) for each in given])


@row
def one_target_for_several_means(b: int) -> Made:
    x, y, v = torch.randn(b, D), torch.randn(b), torch.rand(b, D) + 0.1
    meaning = {**means(x, x, v), "target": named(y, "sample")}
    return GAUSS, (x, y, v), {EACH: meaning, REPEATED: meaning}, False


@row
def a_row_of_targets(b: int) -> Made:
    x, y, v = torch.randn(b, D), torch.randn(1, D), torch.rand(b, D) + 0.1
    return GAUSS, (x, y, v), {REPEATED: {**means(x, x, v), "target": named(y[0], "output")}}, False


@row
def variances_in_a_list(b: int) -> Made:
    x, y, v = torch.randn(b, D), torch.randn(b, D), torch.rand(b) + 0.1
    meaning = {**means(x, y, x), "var": named(v, "sample")}
    return GAUSS, (x, y, v.tolist()), {"": meaning}, False


@row
def variances_of_samples_in_a_row(b: int) -> Made:
    x, y, v = torch.randn(b, D), torch.randn(b, D), torch.rand(1, b) + 0.1
    # As PyTorch reads it where there are as many samples as outputs: for each output.
    meaning = {**means(x, y, x), "var": named(v[0], "output" if b == D else "sample")}
    return GAUSS, (x, y, v), {"": meaning}, False


STEPS, LABELS, SYMBOLS = 4, 2, 3


def spoken(b: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.randn(STEPS, b, SYMBOLS).log_softmax(2)
    y = torch.stack([torch.randperm(SYMBOLS - 1)[:LABELS] + 1 for _ in range(b)])
    return x, y, torch.tensor([STEPS] * b), torch.tensor([LABELS] * b)


def meant(x: Tensor, *others: Tensor) -> Right:
    axes = "time sample classes", "sample label", "sample", "sample"
    return right(CTC, *map(named, (x, *others), axes))


@row
def one_length_of_inputs(b: int) -> Made:
    x, y, long, short = spoken(b)
    return (
        CTC,
        (x, y, STEPS, short),
        {"all samples have this length": meant(x, y, long, short)},
        True,
    )


@row
def one_length_of_each(b: int) -> Made:
    x, y, long, short = spoken(b)
    words = {"all samples have this length": meant(x, y, long, short)}
    return CTC, (x, y, STEPS, LABELS), words, True


@row
def floating_labels_of_sequences(b: int) -> Made:
    x, y, long, short = spoken(b)
    return CTC, (x, y.float(), long, short), {"": meant(x, y, long, short)}, True


@row
def probabilities_of_sequences(b: int) -> Made:
    x, y, long, short = spoken(b)
    return CTC, (x.exp(), y, long, short), {"": meant(x, y, long, short)}, True


@row
def scores_of_sequences(b: int) -> Made:
    _, y, long, short = spoken(b)
    x = torch.randn(STEPS, b, SYMBOLS)
    x[0, 0, 0], x[0, 0, 1] = 1.5, -1.5
    return CTC, (x, y, long, short), {"": meant(x.log_softmax(2), y, long, short)}, True


@row
def samples_before_time(b: int) -> Made:
    x, y, long, short = spoken(b)
    words = {"the first axis of `log_probs` holds the samples": meant(x, y, long, short)}
    return CTC, (x.movedim(0, 1), y, long, short), words, False


@row
def blanks_among_labels(b: int) -> Made:
    x, y, long, short = spoken(b)
    words = {
        "labels count from 0": meant(x, y, long, short),
        "the last class of the model is the blank": meant(x.roll(1, 2), y, long, short),
        "0 fills up the rows": meant(x, y - 1, long, (y != 1).sum(1)),
    }
    return CTC, (x, y - 1, long, short), words, False


def carried_out(fix: str, loss: Loss, given: dict[str, Any]) -> Tensor:
    """The loss when the user does what `fix` says."""
    result = eval(fix, {**PUBLIC, "safeloss": safeloss, "torch": torch, **given})
    edited = edited_argument(fix, given)
    if edited is None:
        return result
    return new_line()(loss.build(), *{**given, edited: result}.values())


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("batch", BATCHES)
def test_a_fix_computes_what_it_says(name: str, batch: int) -> None:
    loss, inputs, words, wanted = ROWS[name](batch)
    given = dict(zip(loss.inputs, inputs, strict=True))
    value, error = outcome(loss, inputs)
    if error is None:  # what is accepted has one meaning
        assert words, "no meaning is right, and the loss computes one"
        for meaning in words.values():
            agrees(value, loss.oracle(**meaning), "no fix")
        return
    assert error.fixes or not wanted or batch == 1, str(error)
    for fix in error.fixes:
        known = [key for key in words if key in fix.when and bool(key) == bool(fix.when)]
        assert len(known) == 1, f"the row does not know what this means: {fix.line}\n{error}"
        agrees(carried_out(fix, loss, given), loss.oracle(**words[known[0]]), fix.line)


def outcome(loss: Loss, inputs: tuple[Any, ...]) -> tuple[Any, safeloss.SafeLossError | None]:
    try:
        return new_line()(loss.build(), *inputs), None
    except safeloss.SafeLossError as error:
        return None, error


def agrees(value: Tensor, expected: float, fix: str) -> None:
    close = math.isclose(value.double().item(), expected, rel_tol=1e-4, abs_tol=1e-5)
    assert close, f"{fix}\ngives {value}, and {expected} is right"
