"""What the numbers must be, when they are read, and what is said of the first bad one."""

import warnings

import pytest
import torch
from test_rulings import carry_out
from torch import tensor

from safeloss import (
    MultiLabelBCE,
    SafeBCEWithLogitsLoss,
    SafeCrossEntropyLoss,
    SafeMultiLabelMarginLoss,
    SuspiciousInputWarning,
    ValueRangeError,
)
from safeloss import functional as SF

BCE, CE = SF.binary_cross_entropy_with_logits, SF.cross_entropy
ML = SF.multilabel_binary_cross_entropy
nan, scores = float("nan"), torch.randn

BROKEN = [
    # kernel, options, input, target, what is said, a fix that is promised
    (BCE, {}, scores(3), tensor([0.0, 2.0, 1.0]), "First at [1]: 2", None),
    (BCE, {}, scores(3), tensor([0.0, nan, 1.0]), "First at [1]: nan", None),
    (BCE, {}, scores(4), tensor([-1, 1, 1, -1]), "First at [0]: -1", "(target + 1) / 2"),
    (BCE, {}, scores(4, 1), tensor([1, 2, 2, 1]), "First at [1]: 2", "target - 1"),
    (BCE, {}, scores(3), tensor([0, 255, 0], dtype=torch.uint8), "[1]: 255", "target / 255"),
    (BCE, {}, scores(2, 2), tensor([[0.0, 1.0], [-0.5, 1.0]]), "First at [1, 0]: -0.5", None),
    (ML, {}, scores(2, 2), tensor([[-1, 1], [1, 1]]), "First at [0, 0]: -1", "(target + 1) / 2"),
    (CE, {}, scores(4, 3), tensor([1, 2, 3, 3]), "First at [2]: 3", "target - 1"),
    (CE, {}, scores(3, 3), tensor([[0], [1], [5]]), "First at [2, 0]: 5", None),
    (CE, {}, scores(3, 3), tensor([0, -1, -1]), "First at [1]: -1", "ignore_index=-1"),
    (CE, {}, scores(3, 3), tensor([0, 255, 1]).byte(), "First at [1]: 255", "ignore_index=255"),
    (CE, {}, scores(3, 3), tensor([0, -1, -2]), "First at [1]: -1", None),
    (CE, {"empty": "raise"}, scores(2, 3), torch.full((2,), -100), "throughout", 'empty="zero"'),
    (CE, {}, scores(2, 3), tensor([[0, 1.0, 1.0], [1.0, 0, 0]]), "sum to 2", "MultiLabelBCE()"),
    (CE, {}, scores(2, 3), tensor([[2, 1.0, 1.0], [1.0, 0, 0]]), "sum to 4", None),
    (CE, {}, scores(2, 3), tensor([[-1.0, 1, 1], [1, 0, 0]]), "First at [0, 0]: -1", None),
    (CE, {"class_dim": -1}, scores(1, 2, 3), torch.ones(1, 2, 3) * 2, "[0, 0, 0]", None),
    (
        CE,
        {"class_dim": -1},
        scores(1, 2, 2, 2),
        tensor([[[[0.5] * 2] * 2, [[0.4] * 2, [0.5] * 2]]]),
        "First at [0, 1, 0, 0]: 0.4",
        None,
    ),
    (CE, {}, scores(1, 2, 3), tensor([[[0.5, 0.5, 0.9], [0.5] * 3]]), "sum to 1.4", None),
    (CE, {}, scores(2, 4, 3), scores(2, 4, 3).softmax(-1), "sum to", "class_dim=-1"),
]


@pytest.mark.parametrize(("kernel", "options", "x", "target", "said", "fix"), BROKEN)
def test_broken_values(kernel, options, x, target, said, fix) -> None:
    inputs = {"input": x, "target": target}
    with pytest.raises(ValueRangeError) as refusal:
        kernel(**inputs, check_values="always", **options)
    assert said in str(refusal.value)
    fixes = refusal.value.fixes
    assert any(fix in offered for offered in fixes) if fix else not fixes
    for offered in fixes:
        assert carry_out(offered, kernel, inputs, {**options, "check_values": "always"}).isfinite()


FINE = [
    (BCE, scores(3), tensor([0.0, 0.5, 1.0])),
    (BCE, scores(3), tensor([True, False, True])),
    (CE, scores(3, 3), tensor([0, -100, 2])),
    (CE, scores(3, 3).half(), scores(3, 3).half().softmax(1)),
    (CE, scores(3, 3).bfloat16(), scores(3, 3).bfloat16().softmax(1)),
    (CE, scores(3, 50), scores(3, 50).softmax(1)),
    (SF.poisson_nll_loss, scores(2), tensor([0.0, 3.0])),
]


@pytest.mark.parametrize(("kernel", "x", "target"), FINE)
def test_fine_values(kernel, x, target) -> None:
    kernel(x, target, check_values="always")


BAD = (scores(4), tensor([0.0, 1.0, 2.0, 1.0]))
GOOD = (scores(4), tensor([0.0, 1.0, 0.0, 1.0]))


def test_modules_read_the_first_call() -> None:
    loss = SafeBCEWithLogitsLoss()
    with pytest.raises(ValueRangeError):
        loss(*BAD)
    with pytest.raises(ValueRangeError):
        loss(*BAD)  # a refused call is no first call
    loss(*GOOD)
    loss(*BAD)  # later batches are not read: see docs/limits.md


@pytest.mark.parametrize("seen", [False, True])
def test_always_and_never(seen) -> None:
    always = SafeBCEWithLogitsLoss(check_values="always")
    never = SafeBCEWithLogitsLoss(check_values="never")
    if seen:
        always(*GOOD), never(*GOOD)
    never(*BAD)
    with pytest.raises(ValueRangeError):
        always(*BAD)
    never.check_values = "always"
    with pytest.raises(ValueRangeError):
        never(*BAD)


def test_functions_do_not_read_unless_told() -> None:
    BCE(*BAD)
    with pytest.raises(ValueRangeError):
        BCE(*BAD, check_values="always")


def test_values_that_are_not_there_are_not_read() -> None:
    loss = SafeBCEWithLogitsLoss()
    loss(*[x.to("meta") for x in BAD])
    torch.func.vmap(loss)(*BAD)
    torch.func.grad(loss)(*BAD)
    torch.fx.experimental.proxy_tensor.make_fx(loss)(*BAD)
    with pytest.raises(ValueRangeError):
        loss(*BAD)  # the first call whose values are there


def test_what_native_notices_is_explained_without_reading_before() -> None:
    with pytest.raises(ValueRangeError, match="First at \\[1\\]: 7"):
        CE(scores(2, 3), tensor([0, 7]))


SUSPICIOUS = [
    (SafeBCEWithLogitsLoss(), torch.rand(16), torch.ones(16), "sigmoid"),
    (MultiLabelBCE(), torch.rand(4, 4), torch.ones(4, 4), "sigmoid"),
    (SafeCrossEntropyLoss(), scores(6, 3).softmax(1), torch.zeros(6).long(), "softmax"),
    (SafeCrossEntropyLoss(class_dim=-1), scores(6, 2, 3).softmax(2), torch.zeros(6, 2).long(), "s"),
]


@pytest.mark.parametrize(("loss", "x", "target", "said"), SUSPICIOUS)
def test_double_activation_warns(loss, x, target, said) -> None:
    with pytest.warns(SuspiciousInputWarning, match=said) as caught:
        loss(x, target)
    assert caught[0].filename == __file__, "the warning points at the line of the call"


INNOCENT = [
    (SafeBCEWithLogitsLoss, torch.zeros(32), torch.ones(32)),  # a head initialised to zero
    (SafeBCEWithLogitsLoss, torch.rand(15), torch.ones(15)),  # too few to tell
    (SafeBCEWithLogitsLoss, scores(32), torch.ones(32)),
    (SafeBCEWithLogitsLoss, 2 * torch.rand(32), torch.ones(32)),
    (SafeBCEWithLogitsLoss, -torch.rand(32), torch.ones(32)),
    (SafeMultiLabelMarginLoss, scores(16, 1), torch.zeros(16, 1).long()),  # one class, no more
    (SafeCrossEntropyLoss, torch.full((8, 4), 0.25), torch.zeros(8).long()),
    (SafeCrossEntropyLoss, scores(8, 4), torch.zeros(8).long()),
    (SafeCrossEntropyLoss, scores(8, 4).log_softmax(1), torch.zeros(8).long()),
]


@pytest.mark.parametrize(("loss", "x", "target"), INNOCENT)
def test_innocent_inputs_do_not_warn(loss, x, target) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss()(x, target)


@pytest.mark.parametrize("target", [[0, 0, 0], [0, -100, 0], [-100, 0, -100]])
def test_a_total_weight_of_zero_warns(target) -> None:
    loss = SafeCrossEntropyLoss(torch.tensor([0.0, 1.0]))
    with pytest.warns(SuspiciousInputWarning, match="0 / 0"):
        loss(scores(3, 2), torch.tensor(target))


def by_export(loss, x, target) -> None:
    torch.export.export(loss, (x, target))


def with_fakes(loss, x, target) -> None:
    with torch._subclasses.FakeTensorMode() as mode:
        loss(mode.from_tensor(x), mode.from_tensor(target))


NOT_READ = {
    "compiled": lambda loss, x, y: torch.compile(loss, backend="eager")(x, y),
    "exported": by_export,
    "make_fx": lambda loss, x, y: torch.fx.experimental.proxy_tensor.make_fx(loss)(x, y),
    "grad": lambda loss, x, y: torch.func.grad(loss)(x, y),
    "vmap": lambda loss, x, y: torch.func.vmap(loss)(x[None], y[None]),
    "meta": lambda loss, x, y: loss(x.to("meta"), y.to("meta")),
    "fake": with_fakes,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", NOT_READ)
def test_a_first_call_that_cannot_be_read_counts_as_read(way: str) -> None:
    """So that nothing is raised in the middle of a run."""
    x, right, wrong = scores(4), torch.rand(4), torch.full((4,), 2.0)
    with pytest.raises(ValueRangeError):
        SafeBCEWithLogitsLoss()(x, wrong)
    loss = SafeBCEWithLogitsLoss()
    NOT_READ[way](loss, x, right)
    if way == "exported":  # it is a program of its own, and the module was not called
        return
    assert torch.equal(
        loss(x, wrong), torch.nn.functional.binary_cross_entropy_with_logits(x, wrong)
    )
