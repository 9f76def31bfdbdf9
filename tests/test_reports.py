"""Cases that went wrong once, each by its rule."""

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from losses import PUBLIC
from torch import nn

import safeloss
from safeloss import MultiLabelBCE, SafeBCEWithLogitsLoss, SafeCrossEntropyLoss
from safeloss import functional as SF

scores, long = torch.randn, lambda *shape: torch.zeros(shape, dtype=torch.long)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, 6), (1, 6, 1)])
def test_no_softmax_over_the_batch_whatever_the_target(shape) -> None:
    for target in (torch.rand(shape), torch.zeros(shape).long(), torch.zeros(shape).bool()):
        with pytest.raises(safeloss.LayoutError) as refusal:
            SF.cross_entropy(scores(6), target)
        assert "SafeBCEWithLogitsLoss()(input, target)" in refusal.value.fixes


def test_autocast_promotes_class_weights_itself() -> None:
    x, target = scores(64, 3).half(), torch.randint(3, (64,))
    for weight in (torch.tensor([1e5, 2e5, 3e5]), torch.tensor([1e-8, 2e-8, 3e-8])):
        safe, native = SafeCrossEntropyLoss(weight), nn.CrossEntropyLoss(weight)
        with torch.autocast("cpu", torch.float16):
            for _ in range(2):
                assert torch.equal(safe(x, target), native(x, target))
        assert safe(x, target).dtype == torch.float16


def test_weights_beside_probabilities_are_promoted_by_native() -> None:
    x, p, weight = scores(8, 3).half(), scores(8, 3).softmax(1).half(), torch.rand(3)
    value, expected = SF.cross_entropy(x, p, weight), F.cross_entropy(x, p, weight)
    assert value.dtype == expected.dtype
    assert torch.equal(value, expected)


def test_fixes_keep_the_other_options() -> None:
    loss = SafeCrossEntropyLoss(ignore_index=-1, reduction="sum", label_smoothing=0.1)
    target = torch.tensor([[0, 1, 2, -1], [0, 1, 2, 2]])
    x = scores(2, 4, 3)
    with pytest.raises(safeloss.LayoutError) as refusal:
        loss(x, target)
    (fix,) = refusal.value.fixes
    for option in ("ignore_index=-1", "reduction='sum'", "label_smoothing=0.1", "class_dim=-1"):
        assert option in fix
    value = eval(fix, {**PUBLIC, "input": x, "target": target})
    options = {"ignore_index": -1, "reduction": "sum", "label_smoothing": 0.1}
    assert torch.equal(value, F.cross_entropy(x.movedim(-1, 1), target, **options))


def test_subclasses_of_any_name() -> None:
    class _mine(SafeCrossEntropyLoss):  # noqa: N801  # the name is the case
        pass

    loss = _mine()
    assert loss(scores(4, 3), long(4)).isfinite()
    with pytest.raises(safeloss.LayoutError, match="_mine: ") as refusal:
        loss(scores(4, 5, 3), long(4, 5))
    assert refusal.value.fixes == ("SafeCrossEntropyLoss(class_dim=-1)(input, target)",)


@pytest.mark.parametrize("value", [None, "abc", [1], 1.5])
def test_ignore_index_must_be_an_integer(value) -> None:
    loss = SafeCrossEntropyLoss(ignore_index=value)
    with pytest.raises(ValueError, match="ignore_index must be an integer"):
        loss(scores(4, 3), long(4))


def test_an_integer_may_be_a_tensor() -> None:
    loss = SafeCrossEntropyLoss(ignore_index=torch.tensor(-100))
    assert loss(scores(4, 3), long(4)).isfinite()


@pytest.mark.parametrize("value", ["3", 0, True])
def test_num_classes_must_count(value) -> None:
    with pytest.raises(ValueError, match="num_classes"):
        MultiLabelBCE(num_classes=value)(scores(4, 3), torch.rand(4, 3))


@pytest.mark.parametrize("value", [True, 1.0, 2])
def test_class_dim_is_one_of_its_choices(value) -> None:
    with pytest.raises(ValueError, match="class_dim"):
        SafeCrossEntropyLoss(class_dim=value)


@pytest.mark.parametrize(
    "target", [[torch.tensor(1), torch.tensor(2)], "a", [[1], [2, 3]], np.zeros(2), {}]
)
def test_a_tensor_is_promised_only_where_one_can_be_made(target) -> None:
    with pytest.raises(safeloss.ArgumentTypeError) as refusal:
        SF.cross_entropy(scores(2, 3), target)
    for fix in refusal.value.fixes:
        eval(fix, {"torch": torch, "target": target})


def test_values_that_cannot_be_read_are_native_s() -> None:
    target = torch.eye(5).to_sparse()
    assert SafeCrossEntropyLoss()(scores(5, 5), target).isfinite()


def test_probabilities_and_an_index_to_ignore() -> None:
    with pytest.raises(RuntimeError, match="floating point target"):
        SafeCrossEntropyLoss(ignore_index=0)(scores(4, 3), scores(4, 3).softmax(1))


def test_fx_records_a_call_with_a_traced_weight() -> None:
    def model(x, y, w):
        return SF.binary_cross_entropy_with_logits(x, y, pos_weight=w)

    inputs = scores(4, 3), torch.rand(4, 3), torch.rand(3)
    assert torch.equal(torch.fx.symbolic_trace(model)(*inputs), model(*inputs))


SafeBCE = SafeBCEWithLogitsLoss()


def masked(x, y):
    known = x > 0
    return SafeBCE(x[known], (y[:, None] * x)[known])


COMPILED = {
    "legacy": lambda x, y: SF.cross_entropy(x, y, size_average=False),
    "settles": SafeCrossEntropyLoss(),
    "masked": masked,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:size_average and reduce")
@pytest.mark.parametrize("name", COMPILED)
def test_compiles_where_native_does(name) -> None:
    torch._dynamo.reset()
    inputs = scores(4, 3, 5), long(4, 5)
    function = COMPILED[name]
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(*inputs), function(*inputs))


OPTIONS = [
    {"class_dim": 2},
    {"class_dim": True},
    {"class_dim": 1.0},
    {"empty": "bogus"},
    {"reduction": "avg"},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_validated_inside_the_compiler(options) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, y: SF.cross_entropy(x, y, **options), backend="eager", fullgraph=True
    )
    with pytest.raises(torch._dynamo.exc.Unsupported) as refusal:
        compiled(scores(8, 3, 3), long(8, 3))
    if not torch.__version__.startswith("2.6"):  # which does not show the text of a builtin one
        assert f"{next(iter(options))} must be " in str(refusal.value)


@pytest.mark.slow
def test_what_is_no_tensor_inside_the_compiler() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(SafeCrossEntropyLoss(), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="`target` must be a tensor"):
        compiled(scores(4, 3), None)


@pytest.mark.parametrize(
    ("kernel", "x", "others", "fix"),
    [
        (SF.nll_loss, scores(4, 3), [long(4)], "input.log_softmax(1)"),
        (SF.nll_loss, scores(3), [long()], "input.log_softmax(0)"),
        (SF.kl_div, scores(2, 3), [torch.rand(2, 3).softmax(1)], "input.log_softmax(1)"),
        (SF.kl_div, scores(2, 3, 4), [torch.rand(2, 3, 4).softmax(1)], "input.log_softmax(1)"),
        (SF.kl_div, scores(2, 3, 4), [torch.rand(2, 3, 4).softmax(2)], "input.log_softmax(2)"),
        (
            SF.ctc_loss,
            scores(8, 2, 4),
            [torch.ones(2, 3).long(), torch.tensor([8, 8]), torch.tensor([3, 3])],
            "log_probs.log_softmax(2)",
        ),
    ],
)
def test_log_probabilities_are_promised_over_the_classes(kernel, x, others, fix) -> None:
    with pytest.raises(safeloss.ValueRangeError) as refusal:
        kernel(x.abs() + 1, *others, reduction="sum", check_values="always")
    assert refusal.value.fixes == (fix,)
    mended = eval(fix, {fix.partition(".")[0]: x})
    assert kernel(mended, *others, reduction="sum", check_values="always").isfinite()


def test_log_probabilities_with_the_classes_last() -> None:
    with pytest.raises(safeloss.ValueRangeError) as refusal:
        SF.nll_loss(scores(2, 4, 3).abs() + 1, long(2, 4), class_dim=-1, check_values="always")
    assert refusal.value.fixes == ("input.log_softmax(2)",)


def test_an_error_of_the_users_own_code_stays_theirs() -> None:
    def distance(one, other):
        raise ValueError("the features are wrong")

    loss = safeloss.SafeTripletMarginWithDistanceLoss(distance_function=distance)
    with pytest.raises(ValueError, match=r"^the features are wrong$") as caught:
        loss(scores(4, 3), scores(4, 3), scores(4, 3))
    assert type(caught.value) is ValueError
    assert caught.traceback[-1].name == "distance"


@pytest.mark.slow
def test_a_variance_with_two_axes_of_one_is_refused_compiled_too() -> None:
    inputs = scores(4, 3, 5), scores(4, 3, 5), torch.rand(1, 1, 5) + 0.1
    with pytest.raises(safeloss.LayoutError):
        SF.gaussian_nll_loss(*inputs)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="do not fit together"):
        torch.compile(SF.gaussian_nll_loss, backend="eager", fullgraph=True)(*inputs)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_what_torch_cannot_compute_is_its_own_error(dtype) -> None:
    with pytest.raises(RuntimeError) as caught:
        SafeBCEWithLogitsLoss()(scores(8, 4).to(dtype), torch.ones(8, 4))
    assert not isinstance(caught.value, safeloss.SafeLossError)
    if hasattr(caught.value, "__notes__"):
        (note,) = caught.value.__notes__
        assert note.startswith("SafeBCEWithLogitsLoss was called with input float8")


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("shape", "other"), [((8, 1, 1), (8,)), ((8,), (8, 1, 1)), ((1, 8, 1), (8,))]
)
def test_a_trace_with_several_axes_of_one_holds_for_every_batch(shape, other) -> None:
    traced = torch.jit.trace(SafeBCEWithLogitsLoss(), (scores(shape), torch.rand(other)))
    smaller = [[5 if size == 8 else size for size in sizes] for sizes in (shape, other)]
    x, y = scores(smaller[0]), torch.rand(smaller[1])
    assert torch.equal(traced(x, y), F.binary_cross_entropy_with_logits(x, y.reshape(x.shape)))


def test_a_margin_over_no_other_class_is_refused() -> None:
    for target in (long(6) + 1, long(6, 1) + 1):
        with pytest.raises(safeloss.LayoutError, match="one class"):
            safeloss.SafeMultiMarginLoss()(scores(6, 1), target)


def test_squeezed_scores_are_no_sample_of_as_many_classes() -> None:
    """PyTorch raises."""
    with pytest.raises(safeloss.LayoutError, match="batch or the classes"):
        safeloss.SafeMultiLabelMarginLoss()(scores(6), long(6, 1))
    assert safeloss.SafeMultiLabelMarginLoss()(scores(6), long(1, 6)).isfinite()


def test_multi_hot_labels_are_no_class_indices() -> None:
    loss, labels = safeloss.SafeMultiLabelMarginLoss(), torch.tensor([[0, 1, 1]] * 6)
    with pytest.warns(safeloss.SuspiciousInputWarning, match="multi-hot"):
        loss(scores(6, 3), labels)
    assert safeloss.SafeMultiLabelMarginLoss()(scores(6, 2), labels[:, :2]).isfinite()


def test_margins_are_not_averaged_over_weights() -> None:
    """A weight of zeros is a loss of 0, and no 0 / 0 to be warned of."""
    assert safeloss.SafeMultiMarginLoss(weight=torch.zeros(3))(scores(6, 3), long(6)) == 0


WHOLE = [1, 2, 3]
WEIGHTED = [
    (loss, name)
    for loss in (*safeloss.SAFE.values(), MultiLabelBCE)
    for name in ("weight", "pos_weight")
    if name in inspect.signature(loss).parameters
]


@pytest.mark.parametrize(("loss", "name"), WEIGHTED)
@pytest.mark.parametrize("weight", [[1.0, 2.0, 3.0], WHOLE, 1.0, np.ones(3)], ids=str)
def test_a_weight_that_is_no_tensor(loss, name, weight) -> None:
    layer = "in_features" in inspect.signature(loss).parameters
    options = {"in_features": 5, "num_classes": 3} if layer else {}
    with pytest.raises(safeloss.ArgumentTypeError, match=f"`{name}` must be a tensor") as refusal:
        loss(**options, **{name: weight})
    (entry,) = [x for x in loss.forward.signature.reader.inputs if x.name == name]
    per_class = not any(pattern.broadcast for pattern in entry.patterns)
    fixes = [f"torch.as_tensor({name})"]
    if per_class and isinstance(weight, float):
        fixes = []  # how many classes there are is known at the call
    elif per_class and weight is WHOLE:
        fixes = [f"torch.as_tensor({name}).float()"]
    assert list(refusal.value.fixes) == fixes


def test_an_option_that_is_right_for_another_loss_is_refused() -> None:
    safeloss.SafeKLDivLoss(reduction="batchmean")
    with pytest.raises(safeloss.OptionError, match="reduction must be one of"):
        safeloss.SafeMSELoss(reduction="batchmean")


def test_a_refusal_stays_one_where_warnings_are_errors() -> None:
    """A fix that is tried may make PyTorch warn."""
    with pytest.raises(safeloss.LayoutError) as refusal:
        SF.kl_div(-torch.rand(4, 1), torch.rand(1, 4), reduction="sum")
    assert refusal.value.fixes


def test_what_native_notices_is_explained_without_another_word() -> None:
    """The scores look like probabilities too: the index past the classes is what was raised of."""
    loss, x = SafeCrossEntropyLoss(check_values="never"), scores(8, 3).softmax(1)
    loss(x, long(8))
    with pytest.raises(safeloss.ValueRangeError, match="class indices"):
        loss(x, long(8) + 7)
    gaussian = safeloss.SafeGaussianNLLLoss(check_values="never")
    nan, infinite = torch.tensor([[float("nan"), 1.0], [float("inf"), 1.0]])
    bce = safeloss.SafeBCELoss(check_values="never")
    with pytest.raises(safeloss.ValueRangeError, match="is NaN"):
        bce(nan, torch.ones(2))
    with pytest.raises(RuntimeError, match="between 0 and 1") as caught:  # we only warn of inf
        bce(infinite, torch.ones(2))
    assert not isinstance(caught.value, safeloss.SafeLossError)
    assert gaussian(nan, nan, torch.ones(2)).isnan()
