"""What the numbers must be, when they are read, and what is said of the first bad one."""

import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lines import new_line
from losses import AT_CALL, LOSSES, Drawn, build, run, same
from test_rulings import carry_out
from torch import tensor

import safeloss
from safeloss import (
    MultiLabelBCE,
    SafeBCELoss,
    SafeBCEWithLogitsLoss,
    SafeCrossEntropyLoss,
    SafeCTCLoss,
    SafeMultiLabelMarginLoss,
    SafeNLLLoss,
    SafePoissonNLLLoss,
    SafeSoftMarginLoss,
    SuspiciousInputWarning,
    ValueRangeError,
)
from safeloss import functional as SF
from safeloss._contract.labels import (
    are_among,
    are_one_hot,
    are_pixels,
    are_probabilities,
    are_scores,
    are_whole,
    listed,
)
from safeloss._contract.patterns import parse
from safeloss._contract.suspicions import Finite, suspicions
from safeloss._contract.values import (
    Between,
    LogProbability,
    NotNaN,
    NotNegative,
    ValueContext,
    first_broken,
)
from safeloss._runtime.accepted import Accepted
from safeloss._runtime.validate import check_values

BCE, CE = SF.binary_cross_entropy_with_logits, SF.cross_entropy
ML, NLL = SF.multilabel_binary_cross_entropy, SF.nll_loss
POISSON, GAUSSIAN = SF.poisson_nll_loss, SF.gaussian_nll_loss
nan, inf, scores = float("nan"), float("inf"), torch.randn

BROKEN = [
    # kernel, options, input, target, what is said, a fix that is promised
    (BCE, {}, scores(3), tensor([0.0, 2.0, 1.0]), "First at [1]: 2", None),
    (BCE, {}, scores(3), tensor([0.0, nan, 1.0]), "First at [1]: nan", "mask=~target.isnan()"),
    (BCE, {}, scores(4), tensor([-1, 1, 1, -1]), "First at [0]: -1", "(target + 1) / 2"),
    (BCE, {}, scores(4, 1), tensor([1, 2, 2, 1]), "First at [1]: 2", "target - 1"),
    (BCE, {}, scores(3), tensor([0, 255, 0], dtype=torch.uint8), "[1]: 255", "target / 255"),
    (BCE, {}, scores(2, 2), tensor([[0.0, 1.0], [-0.5, 1.0]]), "First at [1, 0]: -0.5", None),
    (ML, {}, scores(2, 2), tensor([[-1, 1], [1, 1]]), "First at [0, 0]: -1", "(target + 1) / 2"),
    (CE, {}, scores(4, 3), tensor([1, 2, 3, 3]), "First at [2]: 3", "target - 1"),
    (CE, {}, scores(4, 3), tensor([2, 2, 3, 3]), "First at [2]: 3", None),
    (CE, {}, scores(4, 3), tensor([1, 2, 5, 3]), "First at [2]: 5", None),
    (CE, {}, scores(4, 2), tensor([1, -1, -1, 1]), "First at [1]: -1", "(target == 1).long()"),
    (CE, {}, scores(3, 3), tensor([[0], [1], [5]]), "First at [2, 0]: 5", None),
    (CE, {}, scores(3, 3), tensor([0, -1, -1]), "First at [1]: -1", "ignore_index=-1"),
    (CE, {}, scores(3, 3), tensor([0, 255, 1]).byte(), "First at [1]: 255", "ignore_index=255"),
    (CE, {}, scores(3, 3), tensor([0, -1, -2]), "First at [1]: -1", None),
    (CE, {"empty": "raise"}, scores(2, 3), torch.full((2,), -100), "every number", 'empty="zero"'),
    (CE, {}, scores(2, 3), tensor([[0, 1.0, 1.0], [1.0, 0, 0]]), "sum to 2", "MultiLabelBCE("),
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
    # What is off by more than rounding.
    (BCE, {}, scores(2), tensor([0.0, 1.05]), "First at [1]: 1.05", None),
    (BCE, {}, scores(2), tensor([-0.02, 1.0]), "First at [0]: -0.02", None),
    (CE, {}, scores(2, 5), tensor([[0.2] * 5, [0.22] * 5]), "First at [1, 0]: 0.22", None),
    (CE, {}, scores(2, 5), tensor([[0.18] * 5, [0.2] * 5]), "sum to 0.9", None),
    (POISSON, {}, scores(3), tensor([0, -1, 2]), "First at [1]: -1", None),
    (
        POISSON,
        {"log_input": False},
        tensor([0.5, -0.5]),
        tensor([1.0, 2]),
        "[1]: -0.5",
        "log_input=True",
    ),
    (NLL, {}, tensor([[-1.0, -2], [0.5, -1]]), tensor([0, 1]), "[1, 0]: 0.5", "log_softmax(1)"),
    (
        SF.kl_div,
        {"reduction": "sum", "log_target": True},
        scores(2, 3).softmax(1),
        scores(2, 3).log_softmax(1),
        "never above 0",
        "input.log()",
    ),
    (
        SF.multilabel_margin_loss,
        {},
        scores(2, 3),
        tensor([[1, -2, -1], [0, 1, 2]]),
        "First at [0, 1]: -2",
        None,
    ),
    # PyTorch itself refuses what rounding left outside.
    (
        SF.binary_cross_entropy,
        {},
        tensor([0.5]),
        tensor([1.0000001]),
        "only by rounding",
        "clamp(0, 1)",
    ),
    # NaN has its own words, and comes first.
    (BCE, {}, scores(3), tensor([2.0, nan, 1.0]), "`target` is NaN", None),
    (
        ML,
        {},
        scores(1, 2),
        tensor([[0.5, nan]]),
        "is NaN, which is no number",
        "mask=~target.isnan()",
    ),
    (CE, {}, scores(2, 2), tensor([[1.0, 0], [nan, 1]]), "First at [1, 0]: nan", None),
    (
        SF.mse_loss,
        {},
        scores(2, 1),
        tensor([[0.0], [nan]]),
        "First at [1, 0]: nan",
        "mask=~target.isnan()",
    ),
    (
        SF.binary_cross_entropy,
        {},
        tensor([0.5, 0.5]),
        tensor([0.0, nan]),
        "is NaN",
        "mask=~target.isnan()",
    ),
    (SF.soft_margin_loss, {}, scores(2), tensor([1.0, nan]), "is NaN", "mask=~target.isnan()"),
    (POISSON, {}, scores(2), tensor([nan, -1.0]), "`target` is NaN", None),
    (
        POISSON,
        {"log_input": False},
        tensor([-0.5, 1]),
        tensor([nan, 1.0]),
        "is NaN",
        "mask=~target.isnan()",
    ),
    (SF.kl_div, {"reduction": "sum"}, tensor([-1.0]), tensor([nan]), "is NaN", None),
    (
        SF.kl_div,
        {"reduction": "sum", "log_target": True},
        tensor([-1.0]),
        tensor([nan]),
        "is NaN",
        None,
    ),
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
    (SF.multilabel_margin_loss, scores(2, 3), tensor([[1, -1, -1], [0, 2, -1]])),
    # Labels of one kind only are no suspicion, nor are masked classes.
    (BCE, scores(32), torch.zeros(32)),
    (BCE, scores(32), torch.ones(32)),
    (CE, scores(8, 3), torch.ones(8).long()),
    (CE, tensor([[-inf, 1.0, 2.0]]), tensor([2])),
    (NLL, tensor([[-inf, 0.0, -inf]]), tensor([1])),
    # Right up to rounding.
    (BCE, scores(2), tensor([1.0000001, -1e-7])),
    (BCE, scores(2), tensor([1.01, -0.01])),
    (BCE, scores(1, 1, 37, 37), F.interpolate(torch.ones(1, 1, 13, 13), size=37, mode="bilinear")),
    (BCE, scores(64, 5), torch.randn(64, 5).softmax(1).cumsum(1)),
    (ML, scores(64, 5), torch.randn(64, 5).softmax(1).cumsum(1)),
    (CE, scores(8, 999), (3 * scores(8, 999)).softmax(1).half().float()),
    (CE, scores(8, 999), (3 * scores(8, 999)).softmax(1).bfloat16().float()),
    (CE, scores(8, 999).bfloat16(), (3 * scores(8, 999)).softmax(1).bfloat16()),
    (CE, scores(2, 3, 9), F.interpolate(scores(2, 3, 4).softmax(1), size=9, mode="linear")),
    (NLL, (3 * scores(8, 9)).log_softmax(1).bfloat16().float() + 1e-6, torch.zeros(8).long()),
    (NLL, tensor([[1e-7, -20.0]]), tensor([0])),
    (POISSON, scores(2), tensor([-1e-6, 3.0])),
]


@pytest.mark.parametrize(("kernel", "x", "target"), FINE)
def test_fine_values(kernel, x, target) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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


def test_functions_read_the_first_call_of_a_place() -> None:
    # Of a signature that was seen elsewhere nothing is read, so this one is of its own.
    good, bad = [[x.expand(3, 1, 13, 4) for x in pair] for pair in (GOOD, BAD)]
    call = new_line()
    with pytest.raises(ValueRangeError):
        call(BCE, *bad)
    call(BCE, *good)
    call(BCE, *bad)
    with pytest.raises(ValueRangeError):
        call(BCE, *bad, check_values="always")


class Outer(SafeBCEWithLogitsLoss):
    """A user's subclass: its line calls ours."""

    def forward(self, input, target):
        return super().forward(input, target)


WAYS = {
    "call": lambda *batch: SafeBCEWithLogitsLoss()(*batch),
    "forward": lambda *batch: SafeBCEWithLogitsLoss().forward(*batch),
    "super": lambda *batch: Outer()(*batch),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_modules_built_on_the_spot_read_the_first_call_of_a_place(way) -> None:
    with pytest.raises(ValueRangeError):
        way(*BAD)
    way(*GOOD)
    way(*BAD)
    for elsewhere in (lambda *batch: SafeBCEWithLogitsLoss()(*batch), SafeBCEWithLogitsLoss()):
        with pytest.raises(ValueRangeError):
            elsewhere(*BAD)


UNREAD = [
    lambda loss: loss(*[x.to("meta") for x in BAD]),
    lambda loss: torch.func.vmap(loss)(*BAD),
    lambda loss: torch.func.grad(loss)(*BAD),
    lambda loss: torch.fx.experimental.proxy_tensor.make_fx(loss)(*BAD),
]


@pytest.mark.parametrize("call", UNREAD)
def test_values_that_are_not_there_are_not_read(call) -> None:
    call(SafeBCEWithLogitsLoss())
    with pytest.raises(ValueRangeError):
        SafeBCEWithLogitsLoss(check_values="always")(*BAD)


def test_what_native_notices_is_explained_without_reading_before() -> None:
    with pytest.raises(ValueRangeError, match="First at \\[1\\]: 7"):
        CE(scores(2, 3), tensor([0, 7]))


SUSPICIOUS = [
    (SafeBCEWithLogitsLoss(), torch.randn(16, requires_grad=True).sigmoid(), torch.ones(16), "sig"),
    (MultiLabelBCE(), torch.randn(4, 4, requires_grad=True).sigmoid(), torch.ones(4, 4), "sigmoid"),
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
    (SafeBCEWithLogitsLoss, torch.rand(32), torch.ones(32)),  # an untrained head may score so
    (SafeBCEWithLogitsLoss, scores(32), torch.ones(32)),
    (SafeBCEWithLogitsLoss, 2 * torch.rand(32), torch.ones(32)),
    (SafeBCEWithLogitsLoss, -torch.rand(32), torch.ones(32)),
    (SafeMultiLabelMarginLoss, scores(16, 1), torch.zeros(16, 1).long()),  # one class, no more
    (SafeMultiLabelMarginLoss, scores(16, 2), tensor([[0, 1]] * 16)),  # two classes, both right
    (SafeCrossEntropyLoss, torch.full((8, 4), 0.25), torch.zeros(8).long()),
    (SafeCrossEntropyLoss, scores(8, 4), torch.zeros(8).long()),
    (SafeCrossEntropyLoss, scores(8, 4).log_softmax(1), torch.zeros(8).long()),
]


@pytest.mark.parametrize(("loss", "x", "target"), INNOCENT)
def test_innocent_inputs_do_not_warn(loss, x, target) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_a_new_line(loss())(x, target)


@pytest.mark.parametrize("target", [[0, 0, 0], [0, -100, 0], [-100, 0, -100]])
def test_a_total_weight_of_zero_warns(target) -> None:
    loss = SafeCrossEntropyLoss(torch.tensor([0.0, 1.0]))
    with pytest.warns(SuspiciousInputWarning, match="0 / 0"):
        loss(scores(3, 2), torch.tensor(target))


def plain(loss, n=4):
    """A safe module, its native one, and inputs with fine values."""
    return (*build(loss, Drawn(loss.batch(n), loss.options)), loss.batch(n))


def at_a_new_line(module):
    """The same, called where nothing was said or learnt before."""
    return partial(new_line(), module)


def noted(loss, kind):
    """The positions of the inputs that carry a note of this kind, with the note."""
    entries = {entry.name: entry for entry in loss.safe.forward.signature.reader.inputs}
    for position, name in enumerate(loss.safe.forward.inputs):
        if name in AT_CALL:
            return
        for rule in entries[name].patterns[0].rules:
            if isinstance(rule, kind):
                yield position, rule


over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
FLOATING = [loss for loss in LOSSES if any(noted(loss, NotNaN))]


@over_losses
@pytest.mark.parametrize("samples", [1, 2, 5, 32])
@pytest.mark.parametrize("cast", [torch.float32, torch.float16, torch.bfloat16])
def test_a_healthy_call_is_not_remarked(loss, samples, cast) -> None:
    """Nor one whose numbers were stored in half precision."""
    safe, native, inputs = plain(loss, samples)
    inputs = [x.to(cast).float() if x.is_floating_point() else x for x in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = run(at_a_new_line(safe), inputs, loss.differentiable)
        assert same(value, run(partial(native), inputs, loss.differentiable))
        with torch.no_grad():
            at_a_new_line(loss.safe(**loss.options))(*inputs)


@over_losses
@pytest.mark.parametrize(("number", "word"), [(nan, "NaN"), (inf, "inf")])
def test_predictions_that_are_no_numbers_warn(loss, number, word) -> None:
    """And the loss is what PyTorch makes of them, if it takes them."""
    positions = [position for position, _ in noted(loss, Finite)]
    assert 0 in positions
    for position in positions:
        safe, native, inputs = plain(loss)
        inputs[position] = inputs[position].clone()
        inputs[position].view(-1)[1] = number
        try:
            expected = run(partial(native), inputs, loss.differentiable)
        except RuntimeError:
            assert loss.safe is SafeBCELoss
            if word == "NaN":
                with pytest.raises(ValueRangeError, match="is NaN"):
                    at_a_new_line(safe)(*inputs)
                continue
            with (
                pytest.warns(SuspiciousInputWarning, match=f"contains {word}"),
                pytest.raises(RuntimeError, match="between 0 and 1"),
            ):
                at_a_new_line(safe)(*inputs)
        else:
            with pytest.warns(SuspiciousInputWarning, match=f"contains {word}, first at") as caught:
                assert same(run(at_a_new_line(safe), inputs, loss.differentiable), expected)
            assert len(caught) == 1


@pytest.mark.parametrize("loss", FLOATING, ids=str)
def test_targets_that_are_nan_are_refused_as_nan(loss) -> None:
    for position, _ in noted(loss, NotNaN):
        safe, _, inputs = plain(loss)
        names = loss.safe.forward.inputs[: len(inputs)]
        inputs[position] = inputs[position].clone()
        inputs[position].view(-1)[2] = nan
        index = (inputs[position].isnan()).nonzero()[0].tolist()
        with pytest.raises(ValueRangeError, match="is NaN") as refusal:
            safe(*inputs)
        assert f"First at {index}: nan" in str(refusal.value)
        assert "must" not in refusal.value.rule
        missing = f"({', '.join(names)}, mask=~{names[position]}.isnan())"
        assert all(fix.endswith(missing) for fix in refusal.value.fixes)


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
@pytest.mark.parametrize("loss", [SafeBCEWithLogitsLoss, MultiLabelBCE])
def test_weights_that_are_nan(loss, name) -> None:
    with pytest.raises(ValueRangeError, match=f"`{name}` is NaN"):
        loss(**{name: tensor([1.0, nan])})(scores(3, 2), torch.ones(3, 2))


@pytest.mark.parametrize("loss", [SafeCrossEntropyLoss, SafeNLLLoss, safeloss.SafeMultiMarginLoss])
def test_class_weights_that_are_nan(loss) -> None:
    with pytest.raises(ValueRangeError, match="`weight` is NaN"):
        loss(weight=tensor([1.0, nan]))(scores(3, 2).log_softmax(1), torch.zeros(3).long())


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_variance_is_neither_nan_nor_negative(position) -> None:
    shape = [(4, 3), (4,), (4, 1)][position]
    for number, words in ((nan, "`var` is NaN"), (-1e-3, "`var` must not be negative")):
        var = torch.rand(shape)
        var.view(-1)[2] = number
        with pytest.raises(ValueRangeError, match=words):
            safeloss.SafeGaussianNLLLoss()(scores(4, 3), scores(4, 3), var)


def off(rule, x):
    """Numbers that rounding has left outside, and numbers that it has not."""
    if isinstance(rule, Between):
        return x.new_tensor([1 + 1e-6, 1.01, -1e-6, -0.01]), x.new_tensor([1.02, -0.02, 2, -1])
    if isinstance(rule, LogProbability):
        return x.new_tensor([1e-6, 0.01]), x.new_tensor([0.02, 1.0])
    assert isinstance(rule, NotNegative)
    return x.new_tensor([-1e-6, -0.01]), x.new_tensor([-0.02, -1.0])


@over_losses
def test_ends_of_an_interval_are_met_up_to_rounding(loss) -> None:
    for position, rule in noted(loss, (Between, LogProbability, NotNegative)):
        safe, _, inputs = plain(loss)
        fine, wrong = off(rule, inputs[position])
        if not getattr(rule, "exact", False) and not getattr(rule, "unless", ""):
            for number in fine:
                changed = inputs[position].clone()
                changed.view(-1)[1] = number
                call = at_a_new_line(plain(loss)[0])
                call(*inputs[:position], changed, *inputs[position + 1 :])
        for number in wrong:
            changed = inputs[position].clone()
            changed.view(-1)[1] = number
            if getattr(rule, "unless", "") == "log_input":
                safe = SafePoissonNLLLoss(log_input=False)
                changed = changed.abs().copysign(changed.where(changed == number, 1))
            index = (changed == changed.view(-1)[1]).nonzero()[0].tolist()
            with pytest.raises(ValueRangeError) as refusal:
                safe(*inputs[:position], changed, *inputs[position + 1 :])
            assert f"First at {index}" in str(refusal.value)


def test_sums_are_met_up_to_rounding() -> None:
    fine = torch.full((2, 4), 0.25)
    for loss in (SafeCrossEntropyLoss(), SafeCrossEntropyLoss(class_dim=-1)):
        loss(scores(2, 4), fine * 1.009)
        for factor in (1.02, 0.98, 1.1):
            with pytest.raises(ValueRangeError, match="sum to"):
                type(loss)()(scores(2, 4), fine * factor)


SEQUENCES = [
    # targets,                              input_lengths, target_lengths, sample, needed
    (tensor([[1, 1, 1], [1, 2, 3]]), [4, 4], [3, 3], 0, 5),
    (tensor([[1, 2, 3], [1, 2, 2]]), [4, 3], [3, 3], 1, 4),
    (tensor([[1, 2, 3], [1, 2, 2]]), [2, 4], [3, 2], 0, 3),
    (tensor([1, 2, 3, 3, 3]), [4, 2], [3, 2], 1, 3),
    (tensor([1, 2, 3, 3, 1]), [3, 2], [3, 2], None, 0),  # 3 and 3 are in two samples
    (tensor([[1, 2, 3], [1, 2, 2]]), [4, 4], [3, 3], None, 0),
    (tensor([[1, 2, 2], [1, 1, 1]]), [4, 4], [2, 1], None, 0),  # the padding is not read
]
LENGTHS = {
    "tensor": torch.tensor,
    "int32": lambda lengths: torch.tensor(lengths, dtype=torch.int32),
    "list": list,
    "tuple": tuple,
    "tensors": lambda lengths: [torch.tensor(length) for length in lengths],
}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("targets", "steps", "labels", "sample", "needed"), SEQUENCES)
def test_labels_that_do_not_fit_their_input(
    lengths, targets, steps, labels, sample, needed
) -> None:
    x = scores(4, 2, 4).log_softmax(-1)
    given = (x, targets, LENGTHS[lengths](steps), LENGTHS[lengths](labels))
    each = torch.nn.CTCLoss(reduction="none")(*given)
    assert each.isinf().tolist() == [sample == 0, sample == 1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(at_a_new_line(SafeCTCLoss(reduction="none"))(*given), each)
        at_a_new_line(SafeCTCLoss(zero_infinity=True))(*given)
    said = [str(w.message) for w in caught]
    assert len(said) == (sample is not None)
    if said:
        assert f"needs {needed} time steps for sample {sample} " in said[0]
        assert f"its input has only {steps[sample]}, so" in said[0]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_lengths_in_every_form_are_held_to_their_sizes(lengths) -> None:
    x, targets = scores(4, 2, 4).log_softmax(-1), tensor([[1, 2, 3], [1, 2, 3]])
    form = LENGTHS[lengths]
    with pytest.raises(ValueRangeError, match="`input_lengths` must") as refusal:
        SafeCTCLoss()(x, targets, form([4, 5]), form([3, 3]))
    assert "First at [1]: 5" in str(refusal.value)
    with pytest.raises(ValueRangeError, match="`target_lengths` must"):
        SafeCTCLoss()(x, targets, form([4, 4]), form([4, 3]))
    with pytest.raises(ValueRangeError, match="`targets` must"):
        SafeCTCLoss()(x, tensor([[1, 2, 3], [1, 0, 3]]), form([4, 4]), form([3, 2]))
    SafeCTCLoss()(x, tensor([[1, 2, 3], [1, 2, 0]]), form([4, 4]), form([3, 2]))


def test_a_sequence_may_be_empty() -> None:
    x, joined = scores(4, 2, 4).log_softmax(-1), tensor([1, 2, 3])
    for given in ((tensor([4, 4]), tensor([3, 0])), (tensor([4, 0]), tensor([3, 0]))):
        expected = torch.nn.CTCLoss(reduction="none")(x, joined, *given)
        found = at_a_new_line(SafeCTCLoss(reduction="none"))(x, joined, *given)
        assert torch.equal(found, expected)
    with pytest.raises(ValueRangeError, match="`target_lengths` must"):
        SafeCTCLoss()(x, joined, tensor([4, 4]), tensor([4, -1]))


def test_the_dtype_of_lengths_beside_a_list() -> None:
    x, targets = scores(4, 2, 4).log_softmax(-1), tensor([[1, 2, 3], [1, 2, 3]])
    with pytest.raises(safeloss.DTypeError, match="`target_lengths` is float32"):
        SafeCTCLoss()(x, targets, [4, 4], tensor([3.0, 3.0]))


def test_lengths_that_are_a_list_of_tensors() -> None:
    steps, labels = [tensor(4), tensor(4)], [tensor(3), tensor(2)]
    arguments = {"input_lengths": steps, "target_lengths": labels}
    seen = ValueContext(arguments, {"blank": 0}, {"classes": 4, "time": 4})
    rules = [rule for pattern in parse(safeloss.layouts.SequenceLabels) for rule in pattern.rules]
    for targets, broken, short in (
        (tensor([[1, 2, 3], [1, 2, 0]]), False, False),
        (tensor([[1, 0, 3], [1, 2, 0]]), True, False),
        (tensor([[1, 1, 1], [1, 2, 0]]), False, True),
    ):
        assert (first_broken(targets, tuple(rules), seen) is not None) == broken
        assert bool(suspicions(targets, tuple(rules), seen).texts) == short


def test_one_sequence_without_a_batch() -> None:
    x = scores(4, 4).log_softmax(-1)
    with pytest.warns(SuspiciousInputWarning, match="needs 5 time steps for sample 0"):
        SafeCTCLoss()(x, tensor([1, 1, 1]), tensor(4), tensor(3))


ODD = {
    "sparse": lambda x: x.to_sparse(),
    "csr": lambda x: x.to_sparse_csr(),
    "float8": lambda x: x.to(torch.float8_e4m3fn),
    "quantized": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
    "complex": lambda x: torch.complex(x, x),
    "conjugate": lambda x: torch.complex(x, x).conj(),
    "empty": lambda x: x[:0],
    "no classes": lambda x: x[:, :0],
    "0-d": lambda x: x[0, 0],
    "mkldnn": lambda x: x.to_mkldnn(),
    "integers": lambda x: x.long(),
    "bool": lambda x: x > 0,
    "graph": lambda x: x.clone().requires_grad_().softmax(1),
}
RULES = dict.fromkeys(
    rule
    for name in dir(safeloss.layouts)
    for pattern in parse(getattr(safeloss.layouts, name))
    for rule in pattern.rules
    if not name.startswith("_")
)


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning", "ignore:.*quantiz")
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_rule_breaks_down_by_itself(rule, odd) -> None:
    """Nor where a loss has neither the options nor the axes that it asks for."""
    values = ODD[odd](torch.rand(3, 4) + 0.1)
    for axes, classes in (({}, None), ({"classes": 4, "time": 3}, values.dim() - 1)):
        for arguments in ({}, {"target": values}):
            seen = ValueContext(arguments, {}, axes, classes)
            first_broken(values, (rule,), seen)
            if values.dim() or classes is None:
                suspicions(values, (rule,), seen)


CONCLUSIVE = [
    # kernel, input,                             whether these values settle the checks
    (BCE, scores(15), False),
    (BCE, scores(16), True),
    (BCE, torch.zeros(0), False),
    (BCE, scores(2).requires_grad_() * 2, True),
    (BCE, scores(2).requires_grad_().sigmoid(), True),
    (ML, scores(1, 3), False),
    (CE, scores(1, 3), False),
    (CE, scores(2, 3), True),
    (CE, scores(2, 3).softmax(1), True),
    (CE, scores(1, 3).requires_grad_().softmax(1), True),
    (NLL, scores(1, 3).log_softmax(1), False),
    (NLL, scores(1, 3).requires_grad_().log_softmax(1), True),
    (SF.mse_loss, scores(1), True),
]


@pytest.mark.filterwarnings("ignore::safeloss.SuspiciousInputWarning")
@pytest.mark.parametrize(("kernel", "x", "conclusive"), CONCLUSIVE)
def test_a_look_says_whether_it_was_conclusive(kernel, x, conclusive) -> None:
    signature = kernel.signature
    indices = kernel in (CE, NLL)
    given = {"input": x, "target": x.argmax(1) if indices else torch.ones(x.shape)}
    named = {p.name: given.get(p.name, p.default) for p in signature.parameters}
    call = signature.call(None, named)
    decision = signature.decide(call)
    assert check_values(Accepted(signature, None, named, call, *decision)) == conclusive
    meta = Accepted(signature, None, {**named, "input": x.to("meta")}, call, *decision)
    assert not meta.readable
    assert check_values(meta), "what cannot be read counts as read"


def test_complex_numbers_are_native_s() -> None:
    z = torch.complex(scores(4), scores(4))
    signs = torch.ones(4)
    assert torch.equal(SafeSoftMarginLoss()(z, signs), F.soft_margin_loss(z, signs))
    with pytest.raises(ValueRangeError, match="must be -1 or 1"):
        SafeSoftMarginLoss()(z, z)
    z[1] = complex(0, nan)
    with pytest.raises(ValueRangeError, match="is NaN"):
        safeloss.SafeL1Loss()(scores(4), z)


def test_rates_are_read_where_they_are_no_logarithms() -> None:
    rates, counts = tensor([0.5, -0.5, 2.0]), torch.ones(3)
    assert SafePoissonNLLLoss()(rates, counts).isfinite()
    with pytest.raises(ValueRangeError, match="`input` must not be negative"):
        SafePoissonNLLLoss(log_input=False)(rates, counts)


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


def sequence(length: int, label_length: int, label: int = 1):
    """Arguments of CTC: two sequences of 9 steps over 5 classes, with 3 labels each."""
    targets = torch.full((2, 3), label)
    lengths = torch.full((2,), length), torch.full((2,), label_length)
    return scores(9, 2, 5).log_softmax(2), targets, *lengths


NOTICED = [
    # what PyTorch itself refuses by its numbers, and in which words it does so decides nothing here
    (
        SafeCrossEntropyLoss,
        {},
        (scores(4, 3), tensor([0, 1, 2, 2])),
        (scores(4, 3), tensor([7] * 4)),
    ),
    (SafeNLLLoss, {}, (-torch.rand(4, 3), tensor([0] * 4)), (-torch.rand(4, 3), tensor([7] * 4))),
    (
        safeloss.SafeMultiMarginLoss,
        {},
        (scores(4, 3), tensor([0] * 4)),
        (scores(4, 3), tensor([7] * 4)),
    ),
    (
        SafeMultiLabelMarginLoss,
        {},
        (scores(4, 3), tensor([[1, 0, -1]] * 4)),
        (scores(4, 3), tensor([[1, 7, -1]] * 4)),
    ),
    (SafeBCELoss, {}, (torch.rand(4), torch.ones(4)), (torch.rand(4) + 2, torch.ones(4))),
    (SafeBCELoss, {}, (torch.rand(4), torch.ones(4)), (torch.rand(4), torch.ones(4) + 2)),
    (
        safeloss.SafeGaussianNLLLoss,
        {},
        (scores(4), scores(4), torch.ones(4)),
        (scores(4), scores(4), -torch.ones(4)),
    ),
    (safeloss.SafeCTCLoss, {}, sequence(9, 3), sequence(12, 3)),
    (safeloss.SafeCTCLoss, {}, sequence(9, 3), sequence(9, 4)),
    (
        safeloss.SafeAdaptiveLogSoftmaxWithLoss,
        {"in_features": 5, "n_classes": 8, "cutoffs": [2, 4], "div_value": 2.0},
        (scores(4, 5), tensor([0] * 4)),
        (scores(4, 5), tensor([9] * 4)),
    ),
]


@pytest.mark.parametrize(("kind", "options", "right", "wrong"), NOTICED)
@pytest.mark.parametrize("known", [False, True])
def test_what_native_refuses_by_its_numbers_is_explained(
    kind, options, right, wrong, known
) -> None:
    loss = kind(check_values="never", **options)
    if known:
        loss(*right)
    with pytest.raises(ValueRangeError):
        loss(*wrong)


TOLD = [
    # what is asked,                           of which the answer is yes, and of which it is no
    (are_whole, [tensor([-1.0, 300.0]), tensor([True])], [tensor([0.5]), tensor([1j])]),
    (
        lambda values: are_among(values, 1, 2),
        [tensor([1, 2]), tensor([2.0])],
        [tensor([1]), tensor([1, 2, 3]), tensor([2j])],
    ),
    (
        lambda values: are_one_hot(values, 0),
        [torch.eye(3), tensor([0, 1])],
        [torch.ones(2, 2), torch.zeros(2), tensor([2, -1]), tensor([0.5, 0.5])],
    ),
    (
        lambda values: are_probabilities(values, 0),
        [tensor([0.0, 1.0]), tensor([0.25, 0.755]), torch.eye(3)],
        [tensor([1.0]), tensor([0, 1]), tensor(1.0), tensor([-0.5, 1.5]), tensor([0.5, 0.52])],
    ),
    (
        are_pixels,
        [torch.arange(17), torch.arange(239, 256).float()],
        [
            torch.arange(16),
            torch.arange(-1, 16),
            torch.arange(240, 257),
            torch.arange(20.0) + 0.5,
            torch.zeros(0),
        ],
    ),
    (
        lambda values: are_scores(values, 0),
        [tensor([-0.5, 1.0]), tensor([1.5])],
        [tensor([0.0, 0.5, 1.0]), tensor([-2.0, 7.0]), tensor([3])],
    ),
    (listed, [tensor([1.0])], [tensor([1j]), torch.zeros(0)]),  # what has no order is not listed
]


@pytest.mark.parametrize(("told", "yes", "no"), TOLD)
def test_what_numbers_tell(told, yes, no) -> None:
    assert [bool(told(values)) for values in yes + no] == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 20])
def test_few_numbers_are_listed_and_many_are_counted(count) -> None:
    text = listed(torch.arange(count).float().repeat(2))
    numbers = [int(word) for word in text.replace(",", "").split() if word.isdecimal()]
    assert numbers == (list(range(count)) if count <= 8 else [count, 0, count - 1])
