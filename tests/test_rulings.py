"""Which layouts are accepted, which are refused, and every fix that a refusal promises."""

import re

import pytest
import torch
import torch.nn.functional as F
from lines import new_line
from losses import PUBLIC

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

B, C, T, H, W = 4, 3, 5, 6, 7
rand, long = torch.rand, lambda *shape: torch.zeros(shape, dtype=torch.long)
scores = torch.randn
weight, pos_weight = "weight", "pos_weight"

NATIVE = {safe: native for native, safe in safeloss.SAFE.items()}
NATIVE[MultiLabelBCE] = torch.nn.BCEWithLogitsLoss

ACCEPTED = [
    # loss and options,            input,         target,          as native gets it
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
    # kernel,        input,                        target,                      as native gets it
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
    (SF.binary_cross_entropy_with_logits, {}, (B, T, 1), rand(B, 1, T), LayoutError, "expand"),
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
    (SF.cross_entropy, {}, (B, C), rand(B), DTypeError, "target.long()"),
    (SF.cross_entropy, {}, (B, C), rand(B, 1), DTypeError, "target.long()"),
    (SF.cross_entropy, {}, (B, C), long(B, C), DTypeError, "target.int().argmax(1)"),
    (SF.cross_entropy, {}, (B, C, H, W), long(B, C, H, W), DTypeError, "target.float()"),
    (SF.cross_entropy, {}, (B, C), torch.ones(B, C).bool(), DTypeError, "MultiLabelBCE()"),
    (SF.cross_entropy, {"class_dim": -1}, (B, T, C), long(B, T, C), DTypeError, "argmax(-1)"),
    (SF.cross_entropy, {}, (B, C), torch.ones(B).bool(), DTypeError, "target.long()"),
    (SF.cross_entropy, {}, (B, T, C), long(B, T), LayoutError, "class_dim=-1"),
    (SF.cross_entropy, {}, (B, T, T), long(B, T), AmbiguousLayoutError, "class_dim=1"),
    (SF.cross_entropy, {}, (C, T), long(1, T), LayoutError, "input.unsqueeze(0)"),
    (SF.cross_entropy, {}, (C, C), long(1, C), LayoutError, NONE),  # and then a tie
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
    """Run `fix` as a user would: as an edit of the argument it begins with, or as the call."""
    names = {**inputs, **{k: v for k, v in options.items() if isinstance(v, torch.Tensor)}}
    result = eval(fix, {**PUBLIC, "safeloss": safeloss, "torch": torch, **names})
    edited = re.match(r"\(*(\w+)", fix)[1]
    if edited not in names:
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
        assert "No single step" in str(refused)
    else:
        assert any(fix in offered for offered in refused.fixes), refused.fixes
    for offered in refused.fixes:
        value = carry_out(offered, kernel, inputs, options)
        assert value.isfinite().all()


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
    assert refusal.value.fixes == (
        () if wrong is None or wrong == "x" else ("torch.as_tensor(target)",)
    )


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
