"""Which layouts are accepted, which are refused, and every fix that a refusal promises."""

import functools
import inspect
import re
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lines import new_line
from losses import LOSSES, PUBLIC, Drawn, Loss, build, several
from torch import Tensor

import safeloss
from safeloss import (
    AmbiguousLayoutError,
    ArgumentTypeError,
    DTypeError,
    LayoutError,
    MultiLabelBCE,
    SafeBCEWithLogitsLoss,
    SafeCrossEntropyLoss,
)
from safeloss import functional as SF
from safeloss._messages.fixes import edited_argument

B, C, T, H, W = 4, 3, 5, 6, 7
rand, long = torch.rand, lambda *shape: torch.zeros(shape, dtype=torch.long)


def one_hot(*shape: int) -> torch.Tensor:
    return F.one_hot(long(*shape[:-1]), shape[-1])


scores = torch.randn
weight, pos_weight = "weight", "pos_weight"

NATIVE = {safe: native for native, safe in safeloss.SAFE.items()}
NATIVE[MultiLabelBCE] = torch.nn.BCEWithLogitsLoss

ACCEPTED = [
    # loss and options,            input,         target,          as PyTorch gets it
    (SafeBCEWithLogitsLoss, {}, (B, 1), rand(B), (B, 1)),
    (SafeBCEWithLogitsLoss, {}, (B,), rand(B, 1), (B,)),
    (SafeBCEWithLogitsLoss, {}, (B, T, 1), rand(B, T), (B, T, 1)),
    (SafeBCEWithLogitsLoss, {}, (B, 1, H, W), rand(B, H, W), (B, 1, H, W)),
    (SafeBCEWithLogitsLoss, {}, (B, H, W), rand(B, 1, H, W), (B, H, W)),
    (SafeBCEWithLogitsLoss, {}, (B, 3, 1, 1), rand(B, 3), (B, 3, 1, 1)),
    (SafeBCEWithLogitsLoss, {}, (1, B), rand(B), (1, B)),
    (SafeBCEWithLogitsLoss, {}, (1,), rand(()), (1,)),
    (SafeBCEWithLogitsLoss, {}, (), rand(1), ()),
    (SafeBCEWithLogitsLoss, {}, (B, C), rand(B, C), (B, C)),
    (SafeBCEWithLogitsLoss, {weight: rand(B, C)}, (B, C), rand(B, C), (B, C)),
    (SafeBCEWithLogitsLoss, {weight: rand(C)}, (B, C), rand(B, C), (B, C)),
    (SafeBCEWithLogitsLoss, {weight: rand(C)}, (C, C), rand(C, C), (C, C)),
    (SafeBCEWithLogitsLoss, {weight: rand(B, 1)}, (B, C), rand(B, C), (B, C)),
    (SafeBCEWithLogitsLoss, {weight: rand(B)}, (B,), rand(B), (B,)),
    (SafeBCEWithLogitsLoss, {pos_weight: rand(C)}, (B, C), rand(B, C), (B, C)),
    (SafeBCEWithLogitsLoss, {pos_weight: rand(())}, (B, C, H), rand(B, C, H), (B, C, H)),
    (SafeBCEWithLogitsLoss, {pos_weight: rand(1)}, (B, C, H), rand(B, C, H), (B, C, H)),
    (SafeBCEWithLogitsLoss, {pos_weight: rand(1)}, (B, 1, H), rand(B, 1, H), (B, 1, H)),
    (SafeBCEWithLogitsLoss, {pos_weight: rand(W)}, (B, C, H, W), rand(B, C, H, W), (B, C, H, W)),
    (SafeBCEWithLogitsLoss, {pos_weight: rand(C, 1, 1)}, (B, C, H, W), rand(B, C, H, W), None),
    (MultiLabelBCE, {}, (B, C), rand(B, C), (B, C)),
    (MultiLabelBCE, {}, (B, C), rand(B, C, 1), (B, C)),
    (MultiLabelBCE, {}, (B, C), rand(1, B, C), (B, C)),
    (MultiLabelBCE, {}, (1, C), rand(C), (1, C)),
    (MultiLabelBCE, {}, (C,), rand(1, C), (C,)),
    (MultiLabelBCE, {"num_classes": C}, (C,), rand(C), (C,)),
    (MultiLabelBCE, {"num_classes": C, pos_weight: rand(C)}, (B, C), rand(B, C), (B, C)),
    (SafeCrossEntropyLoss, {}, (B, C), long(B), (B,)),
    (SafeCrossEntropyLoss, {}, (B, C), long(B, 1), (B,)),
    (SafeCrossEntropyLoss, {}, (B, C, H, W), long(B, H, W), (B, H, W)),
    (SafeCrossEntropyLoss, {}, (B, C, H, W), long(B, 1, H, W), (B, H, W)),
    (SafeCrossEntropyLoss, {}, (B, C, H, W), long(B, H, W, 1), (B, H, W)),
    (SafeCrossEntropyLoss, {}, (C,), long(), ()),
    (SafeCrossEntropyLoss, {}, (C,), long(1), ()),
    (SafeCrossEntropyLoss, {}, (1, C), long(), (1,)),
    (SafeCrossEntropyLoss, {}, (1, C, H, W), long(H, W), (1, H, W)),
    (SafeCrossEntropyLoss, {}, (B, C), rand(B, C), (B, C)),
    (SafeCrossEntropyLoss, {}, (B, C, C), rand(B, C, C), (B, C, C)),
    (SafeCrossEntropyLoss, {weight: rand(C)}, (B, C), long(B), (B,)),
    (SafeCrossEntropyLoss, {"class_dim": 1}, (B, T, T), long(B, T), (B, T)),
]


@pytest.mark.parametrize(("loss", "options", "shape", "target", "meant"), ACCEPTED)
def test_accepted(loss, options, shape, target, meant) -> None:
    module, x = loss(check_values="never", reduction="none", **options), scores(shape)
    ours = ("num_classes", "class_dim")
    native = NATIVE[loss](reduction="none", **{k: v for k, v in options.items() if k not in ours})
    expected = native(x, target if meant is None else target.reshape(meant))
    assert torch.equal(module(x, target), expected)
    assert module(x, target).shape == expected.shape


CLASSES_LAST = [(B, T, C), (B, T, T), (B, H, W, C), (B, C)]


@pytest.mark.parametrize("shape", CLASSES_LAST)
@pytest.mark.parametrize("probabilities", [False, True])
def test_classes_on_the_last_axis(shape, probabilities) -> None:
    x = scores(shape)
    target = scores(shape).softmax(-1) if probabilities else long(*shape[:-1])
    second = target.movedim(-1, 1) if probabilities else target
    expected = F.cross_entropy(x.movedim(-1, 1), second, reduction="none")
    loss = SafeCrossEntropyLoss(class_dim=-1, reduction="none")
    assert torch.equal(loss(x, target), expected)
    assert torch.equal(loss(x, target), expected)


def test_weights_on_a_named_axis() -> None:
    x, target = scores(B, C, H, C), rand(B, C, H, C)
    for class_dim, view in ((1, (C, 1, 1)), (-1, (C,))):
        for name in (weight, pos_weight):
            w = rand(C)
            loss = SafeBCEWithLogitsLoss(**{name: w}, class_dim=class_dim)
            expected = F.binary_cross_entropy_with_logits(x, target, **{name: w.view(view)})
            assert torch.equal(loss(x, target), expected)


DTYPES = [
    # kernel,        input,                        target,                      as PyTorch gets it
    (SF.binary_cross_entropy_with_logits, scores(B), torch.ones(B).bool(), torch.float32),
    (SF.binary_cross_entropy_with_logits, scores(B), long(B), torch.float32),
    (SF.binary_cross_entropy_with_logits, scores(B).half(), long(B).int(), torch.float16),
    (SF.binary_cross_entropy_with_logits, scores(B), rand(B).double(), torch.float32),
    (SF.binary_cross_entropy_with_logits, scores(B).bfloat16(), rand(B).double(), torch.float32),
    (SF.binary_cross_entropy_with_logits, scores(B), rand(B).half(), torch.float16),
    (SF.binary_cross_entropy_with_logits, scores(B).double(), rand(B), torch.float32),
    (SF.cross_entropy, scores(B, C), long(B).to(torch.uint8), torch.int64),
    (SF.cross_entropy, scores(B, C), long(B).to(torch.int16), torch.int64),
    (SF.cross_entropy, scores(B, C), long(B).to(torch.int32), torch.int64),
    (SF.cross_entropy, scores(B, 2), torch.ones(B).bool(), torch.int64),
    (SF.cross_entropy, scores(2), torch.ones(()).bool(), torch.int64),
    (SF.cross_entropy, scores(B, C), scores(B, C).softmax(1).double(), torch.float32),
]


@pytest.mark.parametrize(("kernel", "x", "target", "dtype"), DTYPES)
def test_dtypes(kernel, x, target, dtype) -> None:
    expected = getattr(F, kernel.__name__)(x, target.to(dtype))
    assert torch.equal(kernel(x, target), expected)
    assert kernel(x, target).dtype == expected.dtype


def test_weights_of_another_dtype_where_native_would_fail() -> None:
    x, target, w = scores(B, C), long(B), rand(C)
    assert torch.equal(SF.cross_entropy(x, target, w.double()), F.cross_entropy(x, target, w))


NONE = None
REFUSED = [
    # kernel,                            options, input,        target,          error,        fix
    (SF.binary_cross_entropy_with_logits, {}, (B, 1), rand(1, B), LayoutError, "view_as"),
    (SF.binary_cross_entropy_with_logits, {}, (B, T, 1), rand(B, 1, T), LayoutError,
     "broadcast_tensors"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), rand(B, 1), LayoutError, "expand_as"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), rand(1, C), LayoutError, "expand_as"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), rand(()), LayoutError, "expand_as"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), rand(C, B), LayoutError, NONE),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), rand(B), LayoutError, "expand_as"),
    (SF.binary_cross_entropy_with_logits, {}, (B, B), rand(B), LayoutError, "expand_as"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), long(B), LayoutError, "SafeCrossEntropyLoss"),
    (SF.binary_cross_entropy_with_logits, {}, (B, B), long(B), LayoutError, "one_hot"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C), long(B, 1), LayoutError, "SafeCrossEntropy"),
    (SF.binary_cross_entropy_with_logits, {}, (B, C, H, W), long(B, H, W), LayoutError, "SafeCr"),
    (SF.binary_cross_entropy_with_logits, {}, (B, T, C), long(B, T), LayoutError, "class_dim=-1"),
    (SF.binary_cross_entropy_with_logits, {weight: rand(B)}, (B, C), rand(B, C), LayoutError,
     "weight.view(-1, 1)"),
    (SF.binary_cross_entropy_with_logits, {pos_weight: rand(C)}, (B, C, H, W), rand(B, C, H, W),
     LayoutError, "pos_weight.view(-1, 1, 1)"),
    (SF.binary_cross_entropy_with_logits, {pos_weight: rand(C)}, (B, C, H, C), rand(B, C, H, C),
     AmbiguousLayoutError, "class_dim=1"),
    (SF.binary_cross_entropy_with_logits, {weight: rand(2, B, C)}, (B, C), rand(B, C), LayoutError,
     NONE),
    (SF.binary_cross_entropy_with_logits, {weight: rand(B, C)}, (B, 1), rand(B, 1), LayoutError,
     NONE),
    (SF.multilabel_binary_cross_entropy, {}, (B,), rand(B), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.multilabel_binary_cross_entropy, {}, (B,), rand(B, 1), LayoutError, "SafeBCEWithLogits"),
    (SF.multilabel_binary_cross_entropy, {}, (B, 1), rand(B, 1), LayoutError, "SafeBCEWithLogits"),
    (SF.multilabel_binary_cross_entropy, {}, (B, C), long(B), LayoutError, "SafeCrossEntropyLoss"),
    (SF.multilabel_binary_cross_entropy, {}, (B, C), long(B, 1), LayoutError, "SafeCrossEntropy"),
    (SF.multilabel_binary_cross_entropy, {}, (C,), rand(1, 1, C), LayoutError, "SafeBCEWithLogits"),
    (SF.cross_entropy, {}, (B,), rand(B, 1), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (B,), long(B, 1), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.multilabel_binary_cross_entropy, {"num_classes": T}, (B, C), rand(B, C), LayoutError, NONE),
    (SF.multilabel_binary_cross_entropy, {}, (B, C, T), rand(B, C, T), LayoutError, NONE),
    (SF.cross_entropy, {}, (B,), rand(B), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (1,), rand(1), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (B,), long(B), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (B, 1), long(B) + 1, LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (B, 1, H, W), long(B, H, W) + 1, LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (B, T, 1), long(B, T), LayoutError, "SafeBCEWithLogitsLoss"),
    (SF.cross_entropy, {}, (B, C), torch.ones(B), DTypeError, "target.long()"),
    (SF.cross_entropy, {}, (B, C), torch.ones(B, 1), DTypeError, "target.long()"),
    (SF.cross_entropy, {}, (B, C), torch.ones(B) / 2, DTypeError, NONE),
    (SF.cross_entropy, {}, (B, C), torch.ones(B) + C, DTypeError, NONE),
    (SF.cross_entropy, {}, (B, C), one_hot(B, C), DTypeError, "target.int().argmax(1)"),
    (SF.cross_entropy, {}, (B, C, H, W), one_hot(B, H, W, C).movedim(-1, 1), DTypeError, "argmax"),
    (SF.cross_entropy, {}, (B, C, H, W), long(B, C, H, W), DTypeError, NONE),
    (SF.cross_entropy, {}, (B, C), torch.ones(B, C).bool(), DTypeError, "MultiLabelBCE()"),
    (SF.cross_entropy, {"class_dim": -1}, (B, T, C), one_hot(B, T, C), DTypeError, "argmax(-1)"),
    (SF.cross_entropy, {}, (B, C), torch.ones(B).bool(), DTypeError, "target.long()"),
    (SF.cross_entropy, {}, (B, T, C), long(B, T), LayoutError, "class_dim=-1"),
    (SF.cross_entropy, {}, (B, T, T), long(B, T), AmbiguousLayoutError, "class_dim=1"),
    (SF.cross_entropy, {}, (C, T), long(1, T), LayoutError, "input.unsqueeze(0)"),
    (SF.cross_entropy, {}, (C, C), long(1, C), LayoutError, NONE),  # it would be a tie
    (SF.cross_entropy, {}, (B, C), long(T), LayoutError, NONE),
    (SF.cross_entropy, {weight: rand(T)}, (B, C), long(B), LayoutError, NONE),
    (SF.cross_entropy, {weight: rand(C, 1)}, (B, C), long(B), LayoutError, "weight.flatten()"),
    (SF.cross_entropy, {weight: long(C) + 1}, (B, C), long(B), DTypeError, "weight.float()"),
    (SF.cross_entropy, {}, (), long(), LayoutError, NONE),
    (SF.binary_cross_entropy_with_logits, {"empty": "raise"}, (0, 1), rand(0), LayoutError,
     'empty="zero"'),
    (SF.cross_entropy, {"empty": "raise"}, (0, C), long(0), LayoutError, 'empty="zero"'),
]  # fmt: skip


def carry_out(fix: str, kernel, inputs: dict, options: dict):
    """Run `fix` as a user would: as an edit of the argument that it names first, or as the call."""
    names = {**inputs, **{k: v for k, v in options.items() if isinstance(v, torch.Tensor)}}
    result = eval(fix, {**PUBLIC, "safeloss": safeloss, "torch": torch, **names})
    edited = edited_argument(fix, names)
    if edited is None:
        return result
    return kernel(**{**inputs, **options, edited: result})


@pytest.mark.parametrize(("kernel", "options", "shape", "target", "error", "fix"), REFUSED)
def test_refused_with_fixes_that_work(kernel, options, shape, target, error, fix) -> None:
    inputs = {"input": scores(shape), "target": target}
    with pytest.raises(error) as refusal:
        kernel(**inputs, **options)
    refused = refusal.value
    assert type(refused) is error
    assert refused.loss == kernel.__name__
    if fix is None:
        assert not refused.fixes
    else:
        assert any(fix in offered for offered in refused.fixes), refused.fixes
    for offered in refused.fixes:
        value = carry_out(offered, kernel, inputs, options)
        assert value.isfinite().all()


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_wrong_number_of_axes_is_told(loss: Loss) -> None:
    """With the layouts that there are, as `class_dim` spells them."""
    first, *others = loss.batch(B)
    known = "class_dim" in inspect.signature(loss.safe).parameters
    for options in [{"class_dim": 1}, {"class_dim": -1}] if known else [{}]:
        safe = loss.safe(**loss.options, **options, check_values="never")
        for rank, axes in enumerate(["0 axes", "1 axis", "2 axes", "3 axes", "4 axes"]):
            try:
                safe(first.new_zeros([2] * rank), *others)
            except (safeloss.SafeLossError, RuntimeError) as error:
                said = str(error).partition("\n")[0]
                if "and must be [" in said:
                    assert f"has {axes}, and must be [" in said
                    last = options.get("class_dim") == -1 and "*space" in said
                    assert ("*space, classes]" in said) == last


@pytest.mark.parametrize("most", [1, 2])
def test_a_label_of_two_answers_no_yes_no_question(most: int) -> None:
    """So it is a class index; labels of 0 and 1 may be meant otherwise, and the fix says when."""
    for kernel in (SF.binary_cross_entropy_with_logits, SF.multilabel_binary_cross_entropy):
        with pytest.raises(LayoutError) as refusal:
            kernel(scores(B, C), torch.tensor([0, 1, most, 0]))
        (fix,) = [fix for fix in refusal.value.fixes if "SafeCrossEntropyLoss" in fix]
        assert bool(fix.when) == (most == 1)


UNREADABLE = [
    # kernel,                input,  target,        accepted?
    (SF.cross_entropy, (1, 1), long(1), True),
    (SF.nll_loss, (1, 1), long(1), True),
    (SF.multi_margin_loss, (1, 1), long(1), True),
    (SF.cross_entropy, (1, 1, T), long(1, T), True),
    (SF.cross_entropy, (2, 1), long(2), False),
    (SF.nll_loss, (2, 1), long(2), False),
    (SF.multi_margin_loss, (2, 1), long(2), False),
    (SF.cross_entropy, (1,), long(), False),
    (SF.multi_margin_loss, (1,), long(1), False),
    (SF.cross_entropy, (1, 1), rand(1, 1), False),
]


@pytest.mark.parametrize(("kernel", "shape", "target", "accepted"), UNREADABLE)
def test_one_class_is_meant_of_one_sample_whose_label_cannot_be_read(
    kernel, shape, target, accepted
) -> None:
    call = functools.partial(new_line(), kernel, scores(shape).to("meta"), target.to("meta"))
    if accepted:
        assert call().shape == ()
    else:
        with pytest.raises(LayoutError, match="has one class"):
            call()


def test_an_unambiguous_call_settles_the_class_axis() -> None:
    loss = SafeCrossEntropyLoss()
    tie = (scores(B, T, T), long(B, T))
    with pytest.raises(AmbiguousLayoutError):
        loss(*tie)
    loss(scores(B, C), long(B))  # on two axes there is nothing to prove
    with pytest.raises(AmbiguousLayoutError):
        loss(*tie)
    loss(scores(B, C, T), long(B, T))  # of another number of classes
    with pytest.raises(AmbiguousLayoutError):
        loss(*tie)
    loss(scores(B, T, C), long(B, C))
    assert torch.equal(loss(*tie), F.cross_entropy(*tie))


def test_an_unambiguous_call_settles_the_axis_of_weights() -> None:
    loss = SafeBCEWithLogitsLoss(pos_weight=rand(C))
    tie = (scores(B, C, C), rand(B, C, C))
    with pytest.raises(AmbiguousLayoutError):
        loss(*tie)
    loss(scores(B, T, C), rand(B, T, C))
    expected = F.binary_cross_entropy_with_logits(*tie, pos_weight=loss.pos_weight)
    assert torch.equal(loss(*tie), expected)


@pytest.mark.parametrize("kernel", [SF.binary_cross_entropy_with_logits, SF.cross_entropy])
@pytest.mark.parametrize("wrong", [[1.0, 0.0], None, 3, "x", (1, 0)], ids=str)
def test_what_is_no_tensor(kernel, wrong) -> None:
    with pytest.raises(ArgumentTypeError, match=r"`target` must be a tensor") as refusal:
        kernel(scores(2, C), wrong)
    assert isinstance(refusal.value, TypeError)
    assert isinstance(refusal.value, safeloss.SafeLossError)
    for fix in refusal.value.fixes:
        assert kernel(scores(2, C), eval(fix, {"torch": torch, "target": wrong})).isfinite()


@pytest.mark.parametrize(
    ("kernel", "wrong", "fix"),
    [
        (SF.binary_cross_entropy_with_logits, [1.0, 0.0], "torch.as_tensor(target)"),
        (SF.binary_cross_entropy_with_logits, [1, 0], "torch.as_tensor(target)"),
        (SF.cross_entropy, (1, 0), "torch.as_tensor(target)"),
        (SF.cross_entropy, [1.0, 0.0], "torch.as_tensor(target).long()"),
        (SF.cross_entropy, [1.5, 0.0], None),
        (SF.cross_entropy, [1, 7], None),
    ],
)
def test_numbers_that_are_no_tensor(kernel, wrong, fix) -> None:
    inputs = {"input": scores(2, C) if kernel is SF.cross_entropy else scores(2), "target": wrong}
    with pytest.raises(ArgumentTypeError) as refusal:
        kernel(**inputs)
    assert refusal.value.fixes == (() if fix is None else (fix,))
    for offered in refusal.value.fixes:
        assert carry_out(offered, kernel, inputs, {}).isfinite()


def test_a_vmap_hides_the_batch_axis() -> None:
    x, target = scores(B, C), scores(B, C).softmax(1)
    expected = F.cross_entropy(x, target, reduction="none")
    assert torch.allclose(torch.func.vmap(SF.cross_entropy)(x, target), expected)
    loss = MultiLabelBCE(check_values="never")
    assert torch.func.vmap(loss)(x, target).shape == (B,)
    with pytest.raises(LayoutError):
        loss(x[0], target[0])


EMPTY = [
    (SafeBCEWithLogitsLoss, (0, 1), rand(0)),
    (MultiLabelBCE, (0, C), rand(0, C)),
    (SafeCrossEntropyLoss, (0, C), long(0)),
    (SafeCrossEntropyLoss, (0, C), rand(0, C)),
    (SafeCrossEntropyLoss, (B, C), torch.full((B,), -100)),
]


@pytest.mark.parametrize(("loss", "shape", "target"), EMPTY)
def test_a_mean_over_nothing(loss, shape, target) -> None:
    x = scores(shape).requires_grad_()
    with pytest.raises(safeloss.SafeLossError, match="nothing"):
        loss(empty="raise")(x, target)
    with pytest.warns(safeloss.SuspiciousInputWarning, match=r"NaN") as caught:
        assert new_line()(loss(), x, target).isnan()
    assert len(caught) == 1
    assert loss(empty="nan")(x, target).isnan()
    zero = loss(empty="zero")(x, target)
    assert zero == 0
    assert torch.equal(torch.autograd.grad(zero, x)[0], torch.zeros(shape))
    for reduction in ("sum", "none"):
        assert loss(reduction=reduction)(x, target).sum() == 0


def faces_of(loss: Loss, empty: str) -> list:
    faces = [loss.safe(**loss.options, empty=empty)]
    if loss.kernel is not None:
        faces.append(functools.partial(loss.kernel, **loss.options, empty=empty))
    return faces


def warned(call, *args, **options):
    """The result, and how many warnings there were."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call(*args, **options)
    return result, len([w for w in caught if w.category is safeloss.SuspiciousInputWarning])


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("empty", ["warn", "zero", "nan", "raise"])
def test_a_batch_of_nothing(loss: Loss, empty: str) -> None:
    if empty not in inspect.signature(loss.safe).parameters["empty"].annotation.__args__:
        pytest.skip("this loss has no such option")
    none = loss.batch(0)
    none[0].requires_grad_()
    if empty != "raise" and not computes_nothing(loss):
        pytest.skip("PyTorch raises")
    for face in faces_of(loss, empty):
        with warnings.catch_warnings():
            warnings.simplefilter("error", safeloss.SuspiciousInputWarning)
            for inputs in (loss.batch(3), loss.batch(4)):
                assert several(face(*inputs))[-1].isfinite()
        call = new_line()
        if empty == "raise":
            for _ in range(2):
                with pytest.raises(LayoutError, match="nothing"):
                    call(face, *none)
            with pytest.raises(LayoutError, match="nothing"):  # which the sizes tell
                call(face, *[x.to("meta") for x in none])
            continue
        for expected in [1, 0, 0] if empty == "warn" else [0, 0, 0]:  # once for a line
            value, count = warned(call, face, *none)
            value = several(value)[-1]
            assert value == 0 if empty == "zero" else value.isnan()
            assert count == expected
        (gradient,) = torch.autograd.grad(value, none[0])
        assert gradient.shape == none[0].shape
        assert value.dtype == none[0].dtype


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_batch_of_something_is_its_mean_in_every_mode(loss: Loss) -> None:
    for empty in inspect.signature(loss.safe).parameters["empty"].annotation.__args__:
        for n in (1, 4):
            inputs = loss.batch(n)
            safe, native = build(loss, Drawn([], {**loss.options, "empty": empty}))
            for _ in range(2):
                value = warned(safe, *inputs)[0]
                torch.testing.assert_close(several(value)[-1], several(native(*inputs))[-1])


def computes_nothing(loss: Loss) -> bool:
    """Whether PyTorch takes a batch of nothing."""
    try:
        loss.native(**loss.options)(*loss.batch(0))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_result_that_is_not_computed_is_not_said_to_be_nan(loss: Loss) -> None:
    if computes_nothing(loss):
        pytest.skip("it is computed")
    with warnings.catch_warnings():
        warnings.simplefilter("error", safeloss.SuspiciousInputWarning)
        for face in faces_of(loss, "warn"):
            with pytest.raises(RuntimeError):
                new_line()(face, *loss.batch(0))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_an_empty_mean_is_an_error_where_warnings_are(loss: Loss) -> None:
    """Every time, and nothing is learnt from it."""
    if not computes_nothing(loss):
        pytest.skip("PyTorch raises")
    face, call = faces_of(loss, "warn")[0], new_line()
    with warnings.catch_warnings():
        warnings.simplefilter("error", safeloss.SuspiciousInputWarning)
        for _ in range(2):
            with pytest.raises(safeloss.SuspiciousInputWarning, match="zero elements"):
                call(face, *loss.batch(0))
    assert face._memory.values_unchecked
    assert several(face(*loss.batch(4)))[-1].isfinite()


def test_what_the_warning_offers_is_an_option_of_the_loss() -> None:
    for loss in filter(computes_nothing, LOSSES):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            new_line()(loss.safe(**loss.options), *loss.batch(0))
        choices = inspect.signature(loss.safe).parameters["empty"].annotation.__args__
        (said,) = [str(w.message) for w in caught if "zero elements" in str(w.message)]
        assert ('empty="zero"' in said) == ("zero" in choices)


NO_FEATURES = [
    # kernel,                          inputs: the mean is over three samples, or over one number
    (SF.triplet_margin_loss, [rand(3, 0)] * 3),
    (SF.triplet_margin_loss, [rand(0)] * 3),
    (SF.triplet_margin_with_distance_loss, [rand(3, 0)] * 3),
    (SF.triplet_margin_with_distance_loss, [rand(0)] * 3),
    (SF.cosine_embedding_loss, [rand(3, 0), rand(3, 0), torch.ones(3)]),
    (SF.cosine_embedding_loss, [rand(0), rand(0), torch.ones(())]),
    (functools.partial(SF.kl_div, reduction="batchmean"), [rand(3, 0)] * 2),
]


@pytest.mark.parametrize(("kernel", "inputs"), NO_FEATURES)
@pytest.mark.parametrize("empty", ["warn", "zero", "nan", "raise"])
def test_no_features_is_no_mean_over_nothing(kernel, inputs, empty) -> None:
    native = functools.partial(getattr(F, kernel_of(kernel).__name__), **options_of(kernel))
    expected = native(*inputs)
    assert expected.isfinite()
    for _ in range(2):
        value, count = warned(new_line(), kernel, *inputs, empty=empty)
        assert torch.equal(value, expected)
        assert not count


def nearest(one: Tensor, other: Tensor) -> Tensor:
    """One number for each sample, whatever axes it has."""
    return (one - other).abs().flatten(1).sum(1)


NOTHING_INSIDE = [
    # kernel,                          inputs: samples there are, and each is a mean over nothing
    (SF.multilabel_soft_margin_loss, [rand(3, 0)] * 2),
    (SF.multilabel_soft_margin_loss, [rand(2, 3, 0)] * 2),
    (functools.partial(SF.multilabel_soft_margin_loss, reduction="sum"), [rand(3, 0)] * 2),
    (functools.partial(SF.multilabel_soft_margin_loss, reduction="none"), [rand(3, 0)] * 2),
    (SF.triplet_margin_with_distance_loss, [rand(3, 0, 4)] * 3),
    (
        functools.partial(
            SF.triplet_margin_with_distance_loss,
            distance_function=functools.partial(F.pairwise_distance, keepdim=True),
        ),
        [rand(3, 0, 4)] * 3,
    ),
]


@pytest.mark.parametrize(("kernel", "inputs"), NOTHING_INSIDE)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_mean_over_nothing_of_each_sample(kernel, inputs, compiled) -> None:
    x, *others = inputs
    x = x.clone().requires_grad_()
    native = functools.partial(getattr(F, kernel_of(kernel).__name__), **options_of(kernel))
    assert native(*inputs).isnan().all()
    for _ in range(2):
        zero = (torch.compile(kernel, backend="eager") if compiled else kernel)(
            x, *others, empty="zero"
        )
        assert torch.equal(zero, torch.zeros_like(native(*inputs)))
        assert torch.autograd.grad(zero.sum(), x)[0].shape == x.shape
        assert kernel(x, *others, empty="nan").isnan().all()
        with pytest.raises(LayoutError, match="nothing"):
            kernel(x, *others, empty="raise")
    call = new_line()
    for expected in (1, 0):
        value, count = warned(call, kernel, x, *others)
        assert value.isnan().all()
        assert count == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(safeloss.SuspiciousInputWarning):
            new_line()(kernel, x, *others)


def kernel_of(kernel: Any) -> Any:
    return getattr(kernel, "func", kernel)


def options_of(kernel: Any) -> dict[str, Any]:
    return getattr(kernel, "keywords", {})


def test_no_rows_are_no_means() -> None:
    none = rand(0, 0)
    for reduction in ("sum", "none"):
        for empty in ("warn", "zero", "nan", "raise"):
            value, count = warned(
                SF.multilabel_soft_margin_loss, none, none, reduction=reduction, empty=empty
            )
            assert value.sum() == 0
            assert not count
    value, count = warned(new_line(), SF.multilabel_soft_margin_loss, none, none)
    assert value.isnan()
    assert count == 1


@pytest.mark.parametrize("empty", ["warn", "zero", "nan", "raise"])
def test_a_distance_over_nothing_may_be_a_number(empty) -> None:
    """What a function of the user's makes of no numbers is known only once it has run."""
    inputs = [rand(3, 0, 4)] * 3
    loss = safeloss.SafeTripletMarginWithDistanceLoss(distance_function=nearest, empty=empty)
    for _ in range(2):
        value, count = warned(new_line(), loss, *inputs)
        assert value == 1
        assert not count


@pytest.mark.parametrize("shape", [(0,), (0, 1), (1, 0), (3, 0), (2, 0, 3), (0, 0), (2, 2, 2, 0)])
@pytest.mark.parametrize("kernel", [SF.mse_loss, SF.binary_cross_entropy, SF.poisson_nll_loss])
def test_no_elements_on_any_axis(kernel, shape) -> None:
    none = torch.zeros(shape, requires_grad=True)
    zero = kernel(none, torch.zeros(shape), empty="zero")
    assert zero == 0
    assert torch.autograd.grad(zero, none)[0].shape == shape
    value, count = warned(new_line(), kernel, none, torch.zeros(shape))
    assert value.isnan()
    assert count == 1
    for reduction in ("sum", "none"):
        for empty in ("warn", "zero", "nan", "raise"):
            value, count = warned(kernel, none, none, reduction=reduction, empty=empty)
            assert value.sum() == 0
            assert not count


@pytest.mark.skipif("weight" not in inspect.signature(F.mse_loss).parameters, reason="as torch")
@pytest.mark.parametrize("kernel", [SF.mse_loss, SF.l1_loss])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_weights_of_nothing_are_a_mean_over_nothing(kernel, dtype) -> None:
    x, target = scores(B, C, dtype=dtype, requires_grad=True), rand(B, C).to(dtype)
    nothing, always = torch.zeros(B, C, dtype=dtype), {"check_values": "always"}
    zero = kernel(x, target, weight=nothing, empty="zero")
    assert zero == 0
    assert zero.dtype == dtype
    assert torch.equal(torch.autograd.grad(zero, x)[0], nothing)
    assert kernel(x, target, weight=nothing, empty="nan").isnan()
    with pytest.raises(safeloss.ValueRangeError, match="0 / 0"):
        kernel(x, target, weight=nothing, empty="raise", **always)
    value, count = warned(new_line(), kernel, x, target, weight=nothing, **always)
    assert value.isnan()
    assert count == 1
    w = rand(B, C).to(dtype)
    expected = getattr(F, kernel.__name__)(x, target, weight=w)
    torch.testing.assert_close(kernel(x, target, weight=w, empty="zero"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("w", [None, 100.0])
def test_half_sums_do_not_overflow(dtype, w) -> None:
    """Neither that of the losses nor that of the weights, where `empty="zero"` has us divide."""
    x, target = scores(100_000, C).mul(9).to(dtype), torch.randint(C, (100_000,))
    w = None if w is None else torch.full((C,), w, dtype=dtype)
    value = SF.cross_entropy(x, target, w, empty="zero")
    assert value.dtype == dtype
    torch.testing.assert_close(value, F.cross_entropy(x.float(), target).to(dtype))


def test_batchmean_divides_by_the_batch_that_the_target_proves() -> None:
    for shape in ((5,), (5, 6)):
        x, target = scores(shape).log_softmax(-1), rand(1, *shape).softmax(-1)
        expected = F.kl_div(x[None], target, reduction="batchmean")
        loss = safeloss.SafeKLDivLoss(reduction="batchmean")
        for _ in range(2):
            value, _ = warned(new_line(), loss, x, target)
            assert torch.allclose(value, expected)
        wide = loss(x, target.double())
        assert wide.dtype == x.dtype
        assert torch.allclose(wide, expected)
        other = safeloss.SafeKLDivLoss(reduction="sum")(x, target)
        assert torch.allclose(other, F.kl_div(x[None], target, reduction="sum"))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_variance_is_never_aligned(batch, outputs) -> None:
    """`[1, batch]` is not one variance per row: it is one per column, or refused."""
    x, target, var = scores(batch, outputs), rand(batch, outputs), rand(1, batch) + 0.1
    if batch == outputs:
        # The function of older torch has no variance per column, and its formula has.
        expected = F.gaussian_nll_loss(x, target, var.expand(batch, outputs))
        assert torch.allclose(SF.gaussian_nll_loss(x, target, var), expected)
    elif batch > 1:
        with pytest.raises(LayoutError):
            SF.gaussian_nll_loss(x, target, var)
    for var in (rand(batch), rand(batch, 1), rand(batch, outputs)):
        rows = (var + 0.1).view(batch, -1)
        expected = F.gaussian_nll_loss(x, target, rows.expand(batch, outputs))
        assert torch.allclose(SF.gaussian_nll_loss(x, target, var + 0.1), expected)


WHOLE = [
    # kernel,                           name,       probabilities?
    (SF.binary_cross_entropy_with_logits, weight, False),
    (SF.binary_cross_entropy_with_logits, pos_weight, False),
    (SF.binary_cross_entropy, weight, True),
    (SF.multilabel_binary_cross_entropy, weight, False),
    (SF.multilabel_binary_cross_entropy, pos_weight, False),
    (SF.multilabel_soft_margin_loss, weight, False),
]


@pytest.mark.parametrize(("kernel", "name", "probabilities"), WHOLE)
@pytest.mark.parametrize("w", [torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3]).byte()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_weights_are_cast(kernel, name, probabilities, w, dtype) -> None:
    x = scores(B, C, dtype=dtype)
    x, target = x.sigmoid() if probabilities else x, rand(B, C).to(dtype)
    for _ in range(2):
        value = kernel(x, target, **{name: w})
        assert torch.equal(value, kernel(x, target, **{name: w.to(dtype)}))
        assert value.dtype == dtype
    if name == weight:
        keep = torch.tensor([True, False, True])
        expected = kernel(x, target, weight=keep.to(dtype))
        assert torch.equal(kernel(x, target, weight=keep), expected)


@pytest.mark.parametrize("options", [{}, {"check_values": "always"}, {"empty": "zero"}])
def test_an_option_is_judged_alike_by_a_first_call_and_a_known_one(options) -> None:
    loss = SafeCrossEntropyLoss(class_dim=1, **options)
    inputs = scores(B, C, T), long(B, T)
    for fine, wrong in ((1, True), (1, 1.0), (None, 0), (-1, -1.0), (1, "1")):
        given = (inputs[0].movedim(1, -1), inputs[1]) if fine == -1 else inputs
        loss.class_dim = fine
        loss(*given)
        loss(*given)
        loss.class_dim = wrong
        for _ in range(2):
            with pytest.raises(ValueError, match="class_dim must be one of"):
                loss(*given)


@pytest.mark.parametrize("options", [{}, {"check_values": "always"}, {"empty": "zero"}])
def test_an_option_may_change_between_calls(options) -> None:
    """Each call is judged by what is set when it is made."""
    x, target, none = scores(B, C), torch.tensor([0, 1, 2, -100]), long(B) - 100
    loss = SafeCrossEntropyLoss(**options)
    for smoothing, ignored, reduction in (
        (0.0, -100, "mean"),
        (0.1, -100, "sum"),
        (0.1, 1, "none"),
    ):
        loss.label_smoothing, loss.ignore_index, loss.reduction = smoothing, -100, reduction
        for _ in range(2):
            expected = F.cross_entropy(x, target, label_smoothing=smoothing, reduction=reduction)
            torch.testing.assert_close(loss(x, target), expected)
        loss.ignore_index = ignored
        known = target.clamp(min=0)
        expected = F.cross_entropy(
            x, known, ignore_index=ignored, label_smoothing=smoothing, reduction=reduction
        )
        torch.testing.assert_close(loss(x, known), expected)
    loss.reduction, loss.ignore_index = "mean", -100
    for empty, value in (("zero", 0.0), ("nan", None), ("zero", 0.0), ("nan", None)):
        loss.empty = empty
        got = loss(x, none)
        assert got.isnan() if value is None else got == value


def test_the_exponent_may_be_a_float() -> None:
    x, target = scores(B, C), torch.randint(C, (B,))
    for p in (1, 1.0, 2, 2.0):
        expected = F.multi_margin_loss(x, target, p=int(p))
        loss = safeloss.SafeMultiMarginLoss(p=p)
        for _ in range(2):
            assert torch.equal(loss(x, target), expected)
            assert torch.equal(SF.multi_margin_loss(x, target, p), expected)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_sample_of_a_margin_keeps_its_shape(shape) -> None:
    x, target = scores(C), torch.randint(C, shape)
    for reduction in ("none", "mean", "sum"):
        expected = F.multi_margin_loss(x, target, reduction=reduction)
        for _ in range(2):
            value = SF.multi_margin_loss(x, target, reduction=reduction)
            assert torch.equal(value, expected)
            assert value.shape == expected.shape


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 1}])
@pytest.mark.parametrize("w", [None, rand(C)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empty_zero_is_the_mean_otherwise(options, w, dtype) -> None:
    x, target = scores(50, C, dtype=dtype), torch.randint(C, (50,))
    w = None if w is None else w.to(dtype)
    ours = SafeCrossEntropyLoss(w, empty="zero", **options)(x, target)
    expected = F.cross_entropy(x, target, w, **options)
    torch.testing.assert_close(ours, expected)


OPTIONS = [
    (SafeBCEWithLogitsLoss, {"reduction": "avg"}, "'none', 'mean', 'sum'"),
    (SafeBCEWithLogitsLoss, {"check_values": "sometimes"}, "'first', 'never', 'always'"),
    (SafeBCEWithLogitsLoss, {"empty": "skip"}, "'warn', 'zero', 'nan', 'raise'"),
    (SafeCrossEntropyLoss, {"class_dim": 2}, "1, -1, None"),
]


@pytest.mark.parametrize(("loss", "options", "choices"), OPTIONS)
def test_a_bad_option_lists_its_choices(loss, options, choices) -> None:
    with pytest.raises(ValueError, match=re.escape(choices)):
        loss(**options)
    mutated = loss()
    ((name, value),) = options.items()
    setattr(mutated, name, value)
    with pytest.raises(ValueError, match=re.escape(choices)):
        mutated(scores(B, C), rand(B, C))


@pytest.mark.parametrize("count", [0, -1, True])
def test_there_is_a_class(count: Any) -> None:
    with pytest.raises(safeloss.OptionError, match="num_classes must be 1 or more"):
        MultiLabelBCE(num_classes=count)(scores(B, C), rand(B, C))


def test_a_probability_target_with_ignore_index_warns() -> None:
    loss = SafeCrossEntropyLoss(ignore_index=-1)
    with pytest.warns(safeloss.SuspiciousInputWarning, match="ignore_index"):
        loss(scores(B, C), scores(B, C).softmax(1))


def test_a_weight_of_one_element_never_enlarges() -> None:
    x, target, w = scores(()), rand(()), rand(1)
    for name in (weight, pos_weight):
        value = SF.binary_cross_entropy_with_logits(x, target, reduction="none", **{name: w})
        expected = F.binary_cross_entropy_with_logits(x, target, **{name: w[0]})
        assert torch.equal(value, expected)
