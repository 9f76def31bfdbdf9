"""What is special about single losses, and that none of torch's is forgotten."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from lines import new_line
from losses import PUBLIC
from torch import nn

import safeloss
from safeloss import functional as SF


def test_every_loss_of_torch_has_a_safe_one() -> None:
    losses = {name: kind for name, kind in vars(nn).items() if name.endswith("Loss")}
    names = {name for name, kind in losses.items() if isinstance(kind, type)}
    assert names == {native.__name__ for native in safeloss.SAFE}
    for native, safe in safeloss.SAFE.items():
        assert issubclass(safe, native)
        assert safe.__name__ == f"Safe{native.__name__}"


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (4,)])
def test_gaussian_works_where_native_reads_the_variance(shape) -> None:
    inputs = torch.randn(4, 3), torch.randn(4, 3), torch.rand(shape) + 0.1
    expected = F.gaussian_nll_loss(*inputs, full=True)
    loss = safeloss.SafeGaussianNLLLoss(full=True)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*inputs), expected)
    traced = torch.fx.experimental.proxy_tensor.make_fx(loss)(*inputs)
    assert torch.equal(traced(*inputs), expected)
    each = torch.func.vmap(safeloss.SafeGaussianNLLLoss(full=True))(*inputs)
    assert torch.allclose(each.mean(), expected)
    with pytest.raises(safeloss.SafeLossError, match="negative"):
        loss(inputs[0], inputs[1], -inputs[2])


def test_gaussian_takes_a_number() -> None:
    inputs = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(SF.gaussian_nll_loss(*inputs, 2.0), F.gaussian_nll_loss(*inputs, 2.0))


def test_ctc_labels_that_are_not_contiguous() -> None:
    log_probs = torch.randn(8, 2, 4).log_softmax(-1)
    joined = torch.tensor([[1, 0], [2, 0], [3, 0], [1, 0]])[:, 0]
    assert not joined.is_contiguous()
    lengths = torch.tensor([8, 8]), torch.tensor([2, 2])
    expected = F.ctc_loss(log_probs, joined.contiguous(), *lengths)
    assert torch.equal(safeloss.SafeCTCLoss()(log_probs, joined, *lengths), expected)


LENGTHS = [
    tuple,
    list,
    torch.tensor,
    lambda numbers: torch.tensor(numbers).int(),
    lambda numbers: [torch.tensor(number) for number in numbers],
    lambda numbers: tuple(torch.tensor(numbers).unbind()),
]


@pytest.mark.parametrize("form", LENGTHS)
def test_ctc_lengths_in_every_form(form) -> None:
    log_probs, labels = torch.randn(8, 2, 4).log_softmax(-1), torch.tensor([[1, 2], [3, 1]])
    time, lengths = [8, 7], [2, 1]
    expected = F.ctc_loss(log_probs, labels, torch.tensor(time), torch.tensor(lengths))
    for check in ("first", "always", "never"):
        loss = safeloss.SafeCTCLoss(check_values=check)
        for _ in range(2):
            assert torch.equal(loss(log_probs, labels, form(time), form(lengths)), expected)


@pytest.mark.parametrize("position", [2, 3])
@pytest.mark.parametrize("number", [8, 2.0, "2", None, [2.0, 2.0], {2: 2}])
def test_ctc_lengths_that_are_none(position, number) -> None:
    inputs = [torch.randn(8, 2, 4).log_softmax(-1), torch.ones(2, 2).long(), (8, 8), (2, 2)]
    inputs[position] = number
    with pytest.raises(safeloss.ArgumentTypeError, match="_lengths` must be"):
        safeloss.SafeCTCLoss()(*inputs)
    with pytest.raises(safeloss.ArgumentTypeError, match="_lengths` must be"):
        SF.ctc_loss(*inputs)


CTC = [
    # labels of classes 1 to 3,  time,    lengths,   fine?
    ([[1, 2], [3, 1]], [8, 8], [2, 2], True),
    ([[1, 2], [3, 1]], [0, 8], [0, 2], True),
    ([[1, 0], [3, 1]], [8, 8], [1, 2], True),  # padding
    ([1, 2, 3, 1], [8, 8], [2, 2], True),
    ([1, 2, 3, 1], [8, 8], [0, 4], True),
    ([[1, 0], [3, 1]], [8, 8], [2, 2], False),
    ([[1, 2], [4, 1]], [8, 8], [2, 2], False),
    ([[1, 2], [3, -1]], [8, 8], [2, 2], False),
    ([[1, 2], [3, 1]], [9, 8], [2, 2], False),
    ([[1, 2], [3, 1]], [8, -1], [2, 2], False),
    ([[1, 2], [3, 1]], [8, 8], [3, 2], False),
    ([[1, 2], [3, 1]], [8, 8], [2, -1], False),
    ([1, 2, 0, 1], [8, 8], [2, 2], False),
    ([1, 2, 3, 1], [8, 8], [2, 1], False),
    ([1, 2, 3, 1], [8, 8], [5, -1], False),
]


@pytest.mark.parametrize(("labels", "time", "lengths", "fine"), CTC)
def test_ctc_values(labels, time, lengths, fine) -> None:
    log_probs = torch.randn(8, 2, 4).log_softmax(-1)
    loss = safeloss.SafeCTCLoss(check_values="always")
    with contextlib.nullcontext() if fine else pytest.raises(safeloss.ValueRangeError):
        loss(log_probs, *map(torch.tensor, (labels, time, lengths)))


def test_ctc_log_probabilities_are_no_probabilities() -> None:
    inputs = torch.rand(8, 2, 4), *map(torch.tensor, ([1, 2, 3, 1], [8, 8], [2, 2]))
    with pytest.raises(safeloss.ValueRangeError):
        safeloss.SafeCTCLoss(check_values="always")(*inputs)


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (safeloss.SafeMultiMarginLoss, torch.zeros(0).long()),
        (safeloss.SafeMultiLabelMarginLoss, torch.zeros(0, 3).long()),
    ],
)
def test_margins_of_an_empty_batch(loss, target) -> None:
    with pytest.raises(safeloss.LayoutError, match="nothing"):
        loss(empty="raise")(torch.zeros(0, 3), target)
    for empty in ("warn", "nan"):
        with pytest.warns() if empty == "warn" else contextlib.nullcontext():
            # Not what memory holds, whatever it held before.
            assert new_line()(loss(empty=empty), torch.zeros(0, 3), target).isnan()
    assert loss(empty="zero")(torch.zeros(0, 3), target) == 0
    assert loss(reduction="sum")(torch.zeros(0, 3), target) == 0


def test_batchmean_on_one_axis_warns() -> None:
    loss = safeloss.SafeKLDivLoss(reduction="batchmean")
    with pytest.warns(safeloss.SuspiciousInputWarning, match="batchmean"):
        loss(torch.randn(3).log_softmax(0), torch.rand(3))


def test_multilabel_bce_is_the_same_mean() -> None:
    scores, labels = torch.randn(64, 7), torch.rand(64, 7)
    ours = safeloss.MultiLabelBCE()(scores, labels)
    assert torch.allclose(ours, F.multilabel_soft_margin_loss(scores, labels), rtol=1e-6)


BROKEN = [
    (SF.soft_margin_loss, torch.zeros(2), torch.tensor([0, 1]), "target * 2 - 1"),
    (SF.hinge_embedding_loss, torch.zeros(2), torch.tensor([1, 2]), "target * 2 - 3"),
    (SF.nll_loss, torch.randn(4, 3).abs(), torch.zeros(4).long(), "input.log_softmax(1)"),
    (SF.binary_cross_entropy, torch.randn(9) * 9, torch.ones(9), "input.sigmoid()"),
    (
        SF.mse_loss,
        torch.zeros(2),
        torch.tensor([0.0, float("nan")]),
        "safeloss.functional.mse_loss(input, target, check_values='always', mask=~target.isnan())",
    ),
    (SF.poisson_nll_loss, torch.zeros(2), torch.tensor([0.0, -1.0]), None),
]


@pytest.mark.parametrize(("kernel", "x", "target", "fix"), BROKEN)
def test_values(kernel, x, target, fix) -> None:
    with pytest.raises(safeloss.ValueRangeError) as refusal:
        kernel(x, target, check_values="always")
    assert (fix in refusal.value.fixes) if fix else not refusal.value.fixes
    for offered in refusal.value.fixes:
        eval(
            offered, {**PUBLIC, "safeloss": safeloss, "torch": torch, "input": x, "target": target}
        )
