"""Weights, masks and denominators that are given with a call, over all losses.

The oracle repeats: with a weight of 3 a sample stands three times in a batch of PyTorch's own, with
a weight of 0 or under a mask it is not there.
"""

import inspect
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from losses import LOSSES, Drawn, Loss, build, calls
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import safeloss
from safeloss import functional as SF
from safeloss._contract.model import Reading

REFUSING = {safeloss.SafeAdaptiveLogSoftmaxWithLoss}
WEIGHTED = [loss for loss in LOSSES if loss.safe not in REFUSING]
over_weighted = pytest.mark.parametrize("loss", WEIGHTED, ids=str)
GARBAGE = {torch.int64: 77, torch.float64: math.nan}  # under a mask, in targets
MEANS = ("mean", "batchmean")


def batch_axis(loss: Loss, position: int) -> int:
    return 1 if loss.safe is safeloss.SafeCTCLoss and position == 0 else 0


def batch(loss: Loss, samples: int) -> list[Tensor]:
    """Plain inputs, in float64."""
    inputs = loss.batch(samples)
    return [x.double() if x.is_floating_point() else x for x in inputs]


def made(loss: Loss, **options: Any) -> tuple[nn.Module, nn.Module]:
    safe, native = build(loss, Drawn([], {**loss.options, **options}))
    return safe.double(), native.double()


def targets(loss: Loss) -> list[int]:
    """The positions of inputs whose numbers under a mask may be anything."""
    entries = {entry.name: entry for entry in loss.safe.forward.signature.reader.inputs}
    names = loss.safe.forward.inputs
    return [i for i, n in enumerate(names) if i and entries[n].patterns[0].fill is not None]


def repeated(loss: Loss, inputs: list[Tensor], times: Tensor) -> list[Tensor]:
    return [x.repeat_interleave(times, batch_axis(loss, i)) for i, x in enumerate(inputs)]


def gradients(result: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    found = torch.autograd.grad(result, wanted, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found)]


def leaves_of(inputs: list[Tensor], differentiable: int) -> list[Tensor]:
    return [
        x.clone().requires_grad_(x.is_floating_point() and i < differentiable)
        for i, x in enumerate(inputs)
    ]


# The meaning --------------------------------------------------------------------------------------


@over_weighted
@settings(max_examples=25)
@given(data=st.data())
def test_the_unreduced_shape_is_the_declared_one(loss: Loss, data: st.DataObject) -> None:
    drawn = data.draw(calls(loss, (torch.float64,)))
    if str(loss) == "SafeLinearCrossEntropyLoss":  # which torch 2.6 lacks
        assume(drawn.inputs[0].dim() > 1)
    safe, native = build(loss, Drawn(drawn.inputs, {**drawn.options, "reduction": "none"}))
    signature = safe.forward.signature
    named = {p.name: getattr(safe, p.name, p.default) for p in signature.parameters}
    if str(loss) == "SafeLinearCrossEntropyLoss":  # which torch 2.6 lacks
        named |= {"linear_weight": safe._linear_weight(), "linear_bias": safe._linear_bias()}
    named |= dict(zip(safe.forward.inputs, drawn.inputs))
    call = signature.call(None, named)
    reading = signature.reader.read(call)
    assert isinstance(reading, Reading)
    assert tuple(signature.unreduced_axes(reading, call).shape) == native(*drawn.inputs).shape


@over_weighted
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("form", ["weight", "mask", "both"])
@pytest.mark.parametrize("samples", [2, 3, 5, 7])
def test_a_weight_for_each_sample_repeats_it(
    loss: Loss, reduction: str, form: str, samples: int
) -> None:
    """Also where the batch has as many samples as there are classes (3) or places (7)."""
    if loss.safe is safeloss.SafeKLDivLoss and reduction == "mean":
        reduction = "batchmean"
    safe, native = made(loss, reduction=reduction)
    inputs = batch(loss, samples)
    times = torch.arange(samples) % 3 + 1 if form != "mask" else torch.ones(samples).long()
    mask = torch.ones(samples, dtype=torch.bool)
    if form != "weight":
        mask[1] = False
    at_call: dict[str, Any] = {}
    if form != "mask":
        at_call["sample_weight"] = times.double()
    if form != "weight":
        at_call["mask"] = mask
    expected_leaves = leaves_of(inputs, loss.differentiable)
    expected = native(*repeated(loss, expected_leaves, times * mask))
    found = []
    given = [x.clone() for x in inputs]
    if form != "weight":
        for position in targets(loss):
            given[position][1] = GARBAGE[given[position].dtype]
    leaves = leaves_of(given, loss.differentiable)
    for _ in range(2):  # new, and known
        found.append(safe(*leaves, **at_call))
        torch.testing.assert_close(found[-1], expected)
    for one, other in zip(
        gradients(found[-1], leaves), gradients(expected, expected_leaves), strict=True
    ):
        torch.testing.assert_close(one, other)
        if form != "weight" and one.shape[:1] == (samples,):
            assert (one[1] == 0).all()


@over_weighted
@settings(max_examples=30)
@given(data=st.data())
def test_weights_of_any_axes(loss: Loss, data: st.DataObject) -> None:
    """Against the unreduced loss of PyTorch, multiplied by hand in the same shape."""
    drawn = data.draw(calls(loss, (torch.float64,)))
    reduction = data.draw(st.sampled_from(["none", "sum", "mean"]))
    options = {**drawn.options, "reduction": reduction, "empty": "nan"}
    safe, native = build(loss, Drawn(drawn.inputs, options))
    native.reduction = "none"
    if loss.safe is safeloss.SafeCTCLoss and drawn.inputs[1].dim() == 1:
        assume(False)  # joined
    unreduced = native(*drawn.inputs)
    axes = data.draw(st.integers(0, unreduced.dim()))
    shape = list(unreduced.shape[:axes])
    if axes:
        shape += [1] * data.draw(st.integers(0, unreduced.dim() - axes))
    weight = torch.rand(shape, dtype=torch.float64)
    mask = torch.rand(shape) < 0.7
    wide = [x.reshape(shape[:axes] + [1] * (unreduced.dim() - axes)) for x in (weight, mask)]
    factor = (wide[0] * wide[1]).expand_as(unreduced)
    unreduced = unreduced.where(wide[1], 0)  # KL and Poisson of numbers that are no rates
    found = safe(*drawn.inputs, sample_weight=weight, mask=mask)
    if reduction == "none":
        torch.testing.assert_close(found, factor * unreduced, equal_nan=True)
    elif reduction == "sum":
        torch.testing.assert_close(found, (factor * unreduced).sum(), equal_nan=True)
    else:
        native.reduction = "mean"
        divisor = factor * counted(loss, drawn, native)
        expected = (factor * divided(loss, drawn, unreduced)).sum() / divisor.sum()
        torch.testing.assert_close(found, expected, equal_nan=True)


def counted(loss: Loss, drawn: Drawn, native: nn.Module) -> Tensor | float:
    """What the mean counts for each element, from PyTorch's documentation."""
    target, weight = drawn.inputs[1], drawn.options.get("weight")
    indexed = loss.native in (nn.CrossEntropyLoss, nn.NLLLoss) or "Linear" in str(loss)
    if not indexed or target.is_floating_point():
        return 1.0
    ignored = drawn.options.get("ignore_index", -100)
    per_class = torch.ones(100, dtype=torch.float64) if weight is None else weight
    return per_class[target.clamp(min=0)] * (target != ignored)


def divided(loss: Loss, drawn: Drawn, unreduced: Tensor) -> Tensor:
    return unreduced / drawn.inputs[3] if loss.native is nn.CTCLoss else unreduced


@pytest.mark.parametrize("kernel", [SF.mse_loss, SF.l1_loss])
def test_the_weight_of_an_element_counts_in_the_mean(kernel) -> None:
    x, y = torch.randn(2, 4, 3).double()
    weight, sample_weight = torch.rand(4, 3).double(), torch.rand(4).double()
    native = getattr(F, kernel.__name__)(x, y, weight=weight, reduction="none")
    expected = (native * sample_weight[:, None]).sum() / (weight * sample_weight[:, None]).sum()
    torch.testing.assert_close(kernel(x, y, weight=weight, sample_weight=sample_weight), expected)
    mask = weight > 0.5
    known = getattr(F, kernel.__name__)(x[mask], y[mask], weight=weight[mask])
    weight[~mask] = math.nan
    torch.testing.assert_close(kernel(x, y, weight=weight, mask=mask), known)


def test_pytorchs_weight_of_yes_no_questions_does_not_count() -> None:
    """As docs/weights.md says: it multiplies, and the mean divides by the number of elements."""
    x, y, weight = torch.randn(3, 4, 2).double()
    y, weight = y.sigmoid(), weight.exp()
    each = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    found = F.binary_cross_entropy_with_logits(x, y, weight)
    torch.testing.assert_close(found, (each * weight).sum() / 8)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_first_axis_is_meant_also_where_sizes_are_equal(size: int) -> None:
    x, y, w = torch.randn(size, size), torch.rand(size, size), torch.rand(size)
    expected = (F.mse_loss(x, y, reduction="none") * w[:, None]).sum() / (w.sum() * size)
    torch.testing.assert_close(SF.mse_loss(x, y, sample_weight=w), expected)
    expected = F.mse_loss(x[w > 0.5], y[w > 0.5])
    torch.testing.assert_close(
        SF.mse_loss(x, y, mask=w > 0.5, empty="nan"), expected, equal_nan=True
    )


def test_gaussian_variances_under_the_mask_are_not_read() -> None:
    x, y, mask = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([True, False, True, True])
    for shape in [(4, 3), (4,), (4, 1)]:
        var = torch.rand(shape) + 0.1
        wide = var.view(4, -1).expand(4, 3)
        expected = F.gaussian_nll_loss(x[mask], y[mask], wide[mask])
        var[1] = -1.0
        for _ in range(2):
            found = SF.gaussian_nll_loss(x, y, var, mask=mask)
            torch.testing.assert_close(found, expected)


def test_class_probabilities_under_the_mask() -> None:
    x, y = torch.randn(4, 3, 5), torch.randn(4, 3, 5).softmax(1)
    mask = torch.rand(4, 5) < 0.6
    flat = [t.movedim(1, -1)[mask] for t in (x, y)]
    expected = F.cross_entropy(*flat)
    y.movedim(1, -1)[~mask] = math.nan
    torch.testing.assert_close(SF.cross_entropy(x, y, mask=mask), expected)
    last = [t.movedim(1, -1) for t in (x, y)]
    torch.testing.assert_close(SF.cross_entropy(*last, mask=mask, class_dim=-1), expected)


def test_ctc_counts_labels_and_samples() -> None:
    x, labels, inputs, lengths = _ctc()
    mask = torch.tensor([True, False, True])
    expected = F.ctc_loss(x[:, mask], labels[mask], inputs[mask], lengths[mask])
    for each in (lengths, lengths.tolist()):
        torch.testing.assert_close(SF.ctc_loss(x, labels, inputs, each, mask=mask), expected)
    total = F.ctc_loss(x, labels, inputs, lengths, reduction="sum")
    torch.testing.assert_close(SF.ctc_loss(x, labels, inputs, lengths, denominator=7), total / 7)


def _ctc() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.randn(8, 3, 5).log_softmax(-1)
    labels = torch.randint(1, 5, (3, 4))
    return x, labels, torch.tensor([8, 8, 7]), torch.tensor([2, 4, 3])


# Bit for bit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_class_indices_say_the_mask_to_the_fused_operator(reduction: str) -> None:
    x = torch.randn(4, 5, 6, requires_grad=True)
    y, mask = torch.randint(5, (4, 6)), torch.rand(4, 6) < 0.6
    for ignored in (-100, 2):
        expected = F.cross_entropy(
            x, y.masked_fill(~mask, ignored), ignore_index=ignored, reduction=reduction
        )
        found = SF.cross_entropy(x, y, ignore_index=ignored, mask=mask, reduction=reduction)
        assert torch.equal(found, expected)
        assert torch.equal(*[torch.autograd.grad(r.sum(), x)[0] for r in (found, expected)])


def test_a_mask_of_class_indices_keeps_nothing_of_the_size_of_the_scores() -> None:
    """For the backward pass as much is kept as by PyTorch on targets that say the mask."""
    x, y = torch.randn(4, 5, 6, requires_grad=True), torch.randint(5, (4, 6))
    mask = torch.rand(4, 6) < 0.6

    def kept(call) -> list[torch.Size]:
        shapes: list[torch.Size] = []

        def pack(tensor: Tensor) -> Tensor:
            shapes.append(tensor.shape)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            call()
        return shapes

    expected = kept(lambda: F.cross_entropy(x, y.where(mask, -100)))
    assert kept(lambda: SF.cross_entropy(x, y, mask=mask)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_composition_that_is_printed(dtype: torch.dtype) -> None:
    x, y = torch.randn(8, 3).to(dtype), torch.rand(8, 3).to(dtype)
    mask, weight = torch.rand(8, 3) < 0.5, torch.rand(8).to(dtype)
    loss = F.binary_cross_entropy_with_logits(x, y.where(mask, 0), reduction="none").where(mask, 0)
    wide = weight[:, None].where(mask, 0)
    total = (loss * wide).sum(dtype=torch.float32)
    expected = (total / wide.expand_as(loss).sum(dtype=torch.float32)).to(dtype)
    found = SF.binary_cross_entropy_with_logits(x, y, mask=mask, sample_weight=weight)
    assert torch.equal(found, expected)
    assert found.dtype == dtype


@over_weighted
def test_wide_numbers_do_not_widen_the_loss(loss: Loss) -> None:
    safe, native = build(loss, Drawn([], loss.options))
    inputs = loss.batch(4)
    wide = torch.ones(4, dtype=torch.float64)
    dtype = native(*inputs).dtype
    assert safe(*inputs, sample_weight=wide).dtype == dtype
    assert safe(*inputs, sample_weight=wide[0]).dtype == dtype
    if loss.options.get("reduction") != "batchmean":
        assert safe(*inputs, denominator=wide.sum()).dtype == dtype
        assert safe(*inputs, denominator=4).dtype == dtype


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_weight_of_float64_leaves_half_losses_half(reduction: str) -> None:
    x, y = torch.randn(8, 3).half(), torch.rand(8, 3).half()
    weight = torch.rand(8, dtype=torch.float64)
    each = F.mse_loss(x, y, reduction="none")
    for _ in range(2):
        found = SF.mse_loss(x, y, sample_weight=weight, reduction=reduction)
        assert found.dtype == torch.float16
    wide = each * weight.float()[:, None]
    by_hand = {"none": wide, "sum": wide.sum(), "mean": wide.sum() / (weight.sum() * 3)}[reduction]
    torch.testing.assert_close(found, by_hand.half())


def test_one_weight_is_not_stretched_over_several_samples() -> None:
    """A slice of one sample's is a mistake; a number without axes is one for all."""
    x, y = torch.randn(4, 3), torch.randn(4, 3)
    for extra in ({"mask": torch.ones(1).bool()}, {"sample_weight": torch.ones(1, 1)}):
        with pytest.raises(safeloss.LayoutError, match="must have the shape"):
            SF.mse_loss(x, y, **extra)
    assert SF.mse_loss(x, y, sample_weight=torch.tensor(2.0)).isclose(F.mse_loss(x, y))
    assert SF.mse_loss(x[:1], y[:1], mask=torch.ones(1).bool()).isfinite()


@over_weighted
@pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning", "ignore:reduction:UserWarning")
def test_the_old_spelling_of_a_reduction(loss: Loss) -> None:
    if loss.kernel is None or "size_average" not in inspect.signature(loss.kernel).parameters:
        pytest.skip("torch has no legacy arguments here")
    inputs, weight = batch(loss, 4), torch.rand(4).double()
    old = {
        "mean": {"size_average": True},
        "sum": {"size_average": False},
        "none": {"reduce": False},
    }
    for reduction, spelled in old.items():
        expected = loss.kernel(*inputs, sample_weight=weight, reduction=reduction)
        assert torch.equal(loss.kernel(*inputs, sample_weight=weight, **spelled), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_weight_of_another_dtype_makes_what_it_makes_by_hand(
    reduction: str, dtype: torch.dtype
) -> None:
    x, y, weight = torch.randn(8).half(), torch.rand(8).half(), torch.rand(8).to(dtype)
    each = F.mse_loss(x, y, reduction="none") * weight
    expected = {
        "none": each,
        "sum": each.sum(),
        "mean": each.sum() / weight.sum(dtype=torch.float32),
    }[reduction]
    found = SF.mse_loss(x, y, sample_weight=weight, reduction=reduction)
    assert expected.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_sum_of_half_losses_does_not_overflow() -> None:
    x, y = torch.full((1000,), 200.0).half(), torch.zeros(1000).half()
    assert SF.binary_cross_entropy_with_logits(x, y, denominator=1000).item() == 200
    assert SF.binary_cross_entropy_with_logits(x, y, sample_weight=torch.ones(1000)).item() == 200


# Denominators -------------------------------------------------------------------------------------


@over_weighted
def test_micro_batches_add_up(loss: Loss) -> None:
    """A mean over all samples is the sum of what micro-batches give, each with the whole count."""
    if loss.options.get("reduction") == "batchmean":
        pytest.skip("batchmean has its own denominator")
    safe, _ = made(loss)
    inputs = batch(loss, 6)
    safe.reduction = "none"
    unreduced = safe(*inputs)
    safe.reduction = "mean"
    parts = [
        [x.narrow(batch_axis(loss, i), start, size) for i, x in enumerate(inputs)]
        for start, size in ((0, 1), (1, 3), (4, 2))
    ]
    for count in (unreduced.numel(), torch.tensor(float(unreduced.numel()))):
        total = sum(safe(*part, denominator=count) for part in parts)
        torch.testing.assert_close(total, unreduced.sum() / unreduced.numel())


class _Operators(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **kwargs or {})


@over_weighted
def test_a_denominator_alone_costs_one_division(loss: Loss) -> None:
    """PyTorch takes the sum itself."""
    if loss.options.get("reduction") == "batchmean":
        pytest.skip("batchmean has its own denominator")
    safe, native = made(loss, check_values="never")
    native.reduction = "sum"
    inputs = batch(loss, 4)
    with _Operators() as expected:
        native(*inputs)
    with _Operators() as found:
        safe(*inputs, denominator=7)
    assert found.names == [*expected.names, "aten.div.Tensor"]


@over_weighted
def test_a_micro_batch_of_nothing_adds_nothing(loss: Loss) -> None:
    """It is a sum of no numbers, and no mean over them: `empty` has nothing to say."""
    if loss.options.get("reduction") == "batchmean":
        pytest.skip("batchmean has its own denominator")
    for empty in inspect.signature(loss.safe).parameters["empty"].annotation.__args__:
        safe, native = made(loss, empty=empty)
        try:
            native(*batch(loss, 0))
        except RuntimeError:
            pytest.skip("PyTorch takes no batch of nothing")
        assert safe(*batch(loss, 0), denominator=10) == 0


def test_a_mask_leaves_nothing_of_a_micro_batch() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    found = SF.mse_loss(x, torch.randn(4, 5), mask=torch.zeros(4).bool(), denominator=10)
    (gradient,) = torch.autograd.grad(found, x)
    assert found == 0
    assert (gradient == 0).all()


def test_the_value_of_a_denominator_compiles_nothing_anew() -> None:
    loss, x, y = safeloss.SafeCrossEntropyLoss(), torch.randn(8, 3), torch.randint(3, (8,))
    torch._dynamo.reset()
    counter = CompileCounter()
    step = torch.compile(lambda n: loss(x, y, denominator=n), backend=counter, fullgraph=True)
    for n in (3, 4, 5, 6):
        assert torch.allclose(step(n), F.cross_entropy(x, y, reduction="sum") / n)
    assert counter.frame_count <= 2, "static, then dynamic, as of `loss / n`"


def test_a_count_that_only_the_data_will_tell() -> None:
    """Compiled and exported in one graph."""
    loss, x, y = safeloss.SafeCrossEntropyLoss(), torch.randn(8, 3), torch.randint(3, (8,))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        step = torch.compile(
            lambda n: loss(x, y, denominator=n.item()), backend="eager", fullgraph=True
        )
        counts = [torch.tensor(3), torch.tensor(2.5)]
        if torch.__version__ < "2.8":
            counts.pop()  # whose comparisons of such a float cannot be left open
        for n in counts:
            torch.testing.assert_close(step(n), F.cross_entropy(x, y, reduction="sum") / n)


@pytest.mark.parametrize("mode", ["fake", "symbolic"])
def test_traced_without_numbers(mode: str) -> None:
    """A mask is not applied where fake tensors have no mode, and a size may be a count."""

    def loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        return SF.cross_entropy(x, y, mask=mask, denominator=x.shape[0])

    x, y, mask = torch.randn(8, 3), torch.randint(3, (8,)), torch.rand(8) < 0.6
    traced = make_fx(loss, tracing_mode=mode)(x, y, mask)
    size = 5 if mode == "symbolic" else 8
    few = x[:size], y[:size], mask[:size]
    torch.testing.assert_close(traced(*few), loss(*few))


def test_a_wide_weight_of_complex_numbers() -> None:
    x, y = torch.randn(2, 4, 3, dtype=torch.complex64)
    found = SF.l1_loss(x, y, sample_weight=torch.ones(4).double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.l1_loss(x, y))


# Nothing left -------------------------------------------------------------------------------------


@over_weighted
@pytest.mark.parametrize("form", ["mask", "sample_weight"])
def test_a_mean_over_nothing(loss: Loss, form: str) -> None:
    nothing = torch.zeros(4, dtype=torch.bool if form == "mask" else torch.float64)
    inputs = batch(loss, 4)
    with pytest.warns(safeloss.SuspiciousInputWarning, match=f"`{form}`"):
        assert made(loss)[0](*inputs, **{form: nothing}).isnan()
    assert made(loss, empty="nan")[0](*inputs, **{form: nothing}).isnan()
    with pytest.raises(safeloss.ValueRangeError, match=f"`{form}`"):
        made(loss, empty="raise")[0](*inputs, **{form: nothing})
    leaves = leaves_of(inputs, loss.differentiable)
    zero = made(loss, empty="zero")[0](*leaves, **{form: nothing})
    assert zero == 0
    assert all((gradient == 0).all() for gradient in gradients(zero, leaves))


# Compiled, transformed, recorded ------------------------------------------------------------------


@over_weighted
@pytest.mark.slow
def test_compiled_as_eager(loss: Loss) -> None:
    safe, _ = made(loss)
    inputs = batch(loss, 5)
    given = [x.clone() for x in inputs]
    for position in targets(loss):
        given[position][1] = GARBAGE[given[position].dtype]
    weight, mask = torch.rand(5).double(), torch.tensor([True, False, True, True, True])
    torch._dynamo.reset()
    compiled = torch.compile(safe, backend="eager", fullgraph=loss.safe is not safeloss.SafeCTCLoss)
    for at_call in (
        {"sample_weight": weight},
        {"mask": mask},
        {"sample_weight": weight, "mask": mask},
    ):
        expected = safe(*given if "mask" in at_call else inputs, **at_call)
        found = compiled(*given if "mask" in at_call else inputs, **at_call)
        assert torch.equal(found, expected)


def test_under_vmap_and_grad() -> None:
    x, y, w = torch.randn(6, 4, 3), torch.rand(6, 4, 3), torch.rand(6, 4)

    def loss(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return SF.mse_loss(x, y, sample_weight=w, mask=w > 0.2)

    found = torch.func.vmap(torch.func.grad(loss))(x, y, w)
    for i in range(6):
        torch.testing.assert_close(found[i], torch.func.grad(loss)(x[i], y[i], w[i]))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loss = safeloss.SafeMSELoss()

    def forward(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return self.loss(x, y, sample_weight=w, mask=w > 0.2)


@pytest.mark.parametrize("record", ["fx", "export", "trace"])
def test_recorded(record: str) -> None:
    x, y, w = torch.randn(4, 3), torch.rand(4, 3), torch.rand(4)
    model, recorded = Model(), None
    if record == "fx":
        recorded = torch.fx.symbolic_trace(Model())
    elif record == "export":
        recorded = torch.export.export(Model(), (x, y, w)).module()
    else:
        recorded = torch.jit.trace(Model(), (x, y, w))
    torch.testing.assert_close(recorded(x, y, w), model(x, y, w))


def test_gradients_of_weights_and_of_second_order() -> None:
    x, y = torch.randn(4, 3).double().requires_grad_(), torch.rand(4, 3).double()
    w, mask = torch.rand(4).double().requires_grad_(), torch.tensor([True, True, False, True])

    def loss(x: Tensor, w: Tensor) -> Tensor:
        return SF.mse_loss(x, y, sample_weight=w, mask=mask)

    assert torch.autograd.gradcheck(loss, (x, w))
    assert torch.autograd.gradgradcheck(loss, (x, w))


class _Large(TorchDispatchMode):
    """Counts results that are as large as the scores, but for views."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements, self.count = elements, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.count += sum(
                isinstance(each, torch.Tensor) and each.numel() >= self.elements
                for each in (result if isinstance(result, (tuple, list)) else (result,))
            )
        return result


def test_a_mask_of_class_indices_costs_no_tensor_of_the_size_of_the_scores() -> None:
    x, y = torch.randn(2, 4, 50, requires_grad=True), torch.randint(50, (2, 4))
    mask = torch.rand(2, 4) < 0.5
    losses = (
        lambda: F.cross_entropy(x.movedim(-1, 1), y.masked_fill(~mask, -100)),
        lambda: safeloss.SafeCrossEntropyLoss(class_dim=-1, check_values="never")(x, y, mask=mask),
    )
    counts = []
    for loss in losses:
        with _Large(x.numel()) as large:
            loss().backward()
        counts.append(large.count)
    assert 0 < counts[1] <= counts[0]


# Refused ------------------------------------------------------------------------------------------

X, Y = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
LABELS = torch.tensor([0.0, 1, 1, 0])
CLASSES, SQUARES = (SF.cross_entropy, X, Y), (SF.mse_loss, X, X)
COLUMN = (SF.mse_loss, X[:, :1], LABELS)
PER_SAMPLE = (SF.multilabel_soft_margin_loss, X, X.sigmoid())
REFUSED = [
    # the call, with, error, what is said, a fix
    (CLASSES, {"mask": torch.ones(4)}, safeloss.DTypeError, "must be bool", "mask != 0"),
    (CLASSES, {"mask": torch.ones(4).long()}, safeloss.DTypeError, "must be bool", "mask != 0"),
    (CLASSES, {"sample_weight": Y > 0}, safeloss.DTypeError, "a mask", "mask=sample_weight"),
    (CLASSES, {"sample_weight": X[0].abs()}, safeloss.LayoutError, "`weight`'s job", None),
    (CLASSES, {"mask": X > 0}, safeloss.LayoutError, "[4]", None),
    (CLASSES, {"sample_weight": [1, 1]}, safeloss.ArgumentTypeError, "tensor", None),
    (CLASSES, {"mask": [1, 0, 1, 1]}, safeloss.ArgumentTypeError, "tensor", "(mask) != 0"),
    (CLASSES, {"mask": Y.numpy()}, safeloss.ArgumentTypeError, "tensor", "(mask) == 0"),
    (CLASSES, {"mask": [True] * 4}, safeloss.ArgumentTypeError, "tensor", "as_tensor(mask)"),
    (CLASSES, {"mask": [1, 0]}, safeloss.ArgumentTypeError, "tensor", None),
    (CLASSES, {"denominator": 10**400}, safeloss.ValueRangeError, "below 2**63", None),
    (CLASSES, {"denominator": 10**5000}, safeloss.ValueRangeError, "below 2**63", None),
    (CLASSES, {"denominator": -(10**5000)}, safeloss.ValueRangeError, "below 2**63", None),
    (CLASSES, {"denominator": float("inf")}, safeloss.ValueRangeError, "below 2**63", None),
    (CLASSES, {"denominator": 0}, safeloss.ValueRangeError, "above 0", None),
    (CLASSES, {"denominator": True}, safeloss.ValueRangeError, "a number above 0", None),
    (CLASSES, {"denominator": "4"}, safeloss.ArgumentTypeError, "must be one number", None),
    (CLASSES, {"denominator": 3j}, safeloss.ArgumentTypeError, "must be one number", None),
    (CLASSES, {"denominator": Y.sum() > 0}, safeloss.DTypeError, "integer or floating.", None),
    (CLASSES, {"denominator": Y.sum() * 1j}, safeloss.DTypeError, "integer or floating.", None),
    (CLASSES, {"sample_weight": Y * 1j}, safeloss.DTypeError, "integer or floating.", None),
    (
        CLASSES,  # a fix keeps the mask
        {"sample_weight": Y > 0, "mask": Y < 2},
        safeloss.DTypeError,
        "a mask",
        "sample_weight.float()",
    ),
    (CLASSES, {"denominator": Y}, safeloss.LayoutError, "one number", "denominator.sum()"),
    (CLASSES, {"denominator": 3, "reduction": "sum"}, safeloss.OptionError, "mean", None),
    (CLASSES, {"denominator": 3, "reduction": "none"}, safeloss.OptionError, "mean", None),
    (CLASSES, {"sample_weight": -Y}, safeloss.ValueRangeError, "negative", None),
    (SQUARES, {"sample_weight": X[:1]}, safeloss.LayoutError, "[4, 3] or [4]", None),
    (COLUMN, {"mask": LABELS[None] > 0}, safeloss.LayoutError, "mask", None),
    (PER_SAMPLE, {"mask": X > 0}, safeloss.LayoutError, "MultiLabelBCE", None),
]


@pytest.mark.parametrize(("call", "at_call", "error", "said", "fix"), REFUSED)
def test_refused(call, at_call, error, said, fix) -> None:
    kernel, *inputs = call
    with pytest.raises(error) as refusal:
        kernel(*inputs, **at_call)
    assert said in str(refusal.value)
    assert any(fix in each for each in refusal.value.fixes) if fix else not refusal.value.fixes


@pytest.mark.parametrize("at_call", [{"mask": True}, {"sample_weight": 1.0}, {"mask": Y}])
def test_what_is_given_with_a_call_counts_no_classes(at_call) -> None:
    with pytest.raises(safeloss.SafeLossError) as refusal:
        SF.cross_entropy(X[:3], Y[:3], **at_call)
    assert "each class" not in str(refusal.value)
    assert "numbers" not in str(refusal.value)


@pytest.mark.parametrize("at_call", [{"sample_weight": X[:, 0]}, {"denominator": 3, "mask": None}])
def test_given_to_the_constructor(at_call) -> None:
    """The fix passes it by keyword, since the call takes it no other way."""
    with pytest.raises(safeloss.ArgumentTypeError, match="given to the constructor") as refusal:
        safeloss.SafeMSELoss(**at_call)
    (fix,) = refusal.value.fixes
    assert all(f"{name}={name}" in fix for name in at_call)
    names = {"sample_weight": X[:, 0].abs(), "denominator": 3, "mask": None}
    eval(fix, {"SafeMSELoss": safeloss.SafeMSELoss, "input": X, "target": X, **names})


def test_a_list_of_bool_has_one_fix() -> None:
    with pytest.raises(safeloss.ArgumentTypeError) as refusal:
        SF.cross_entropy(X, Y, mask=[True, False, True, True])
    assert refusal.value.fixes == ("torch.as_tensor(mask)",)


def test_infinite_weights_are_suspicious() -> None:
    """They are computed as by hand: the mean is NaN. What a mask leaves out may be infinite."""
    weights = torch.tensor([1.0, 2, 0.5, float("inf")])
    loss = safeloss.SafeCrossEntropyLoss()
    with pytest.warns(safeloss.SuspiciousInputWarning, match="`sample_weight` contains inf"):
        assert loss(X, Y, sample_weight=weights).isnan()
    found = safeloss.SafeCrossEntropyLoss()(X, Y, sample_weight=weights, mask=weights < 3)
    torch.testing.assert_close(found, SF.cross_entropy(X[:3], Y[:3], sample_weight=weights[:3]))


def test_negative_weights_where_nothing_is_divided_by_them() -> None:
    advantages = torch.tensor([1.0, -2, 0.5, -1])
    for options in ({"reduction": "sum"}, {"denominator": 4}):
        found = SF.cross_entropy(X, Y, sample_weight=advantages, check_values="always", **options)
        expected = (F.cross_entropy(X, Y, reduction="none") * advantages).sum()
        torch.testing.assert_close(found, expected / options.get("denominator", 1))


def test_joined_labels_take_no_mask() -> None:
    x, labels, inputs, lengths = _ctc()
    joined = torch.cat([row[:n] for row, n in zip(labels, lengths)])
    with pytest.raises(safeloss.LayoutError, match="joins all samples"):
        SF.ctc_loss(x, joined, inputs, lengths, mask=torch.ones(3).bool())


@pytest.mark.parametrize("name", ["sample_weight", "mask", "denominator"])
def test_a_loss_that_takes_none(name: str) -> None:
    for loss in LOSSES:
        if loss.safe in REFUSING:
            safe, _ = build(loss, Drawn([], loss.options))
            given = torch.ones(4, dtype=torch.bool if name == "mask" else torch.float32)
            with pytest.raises(safeloss.OptionError, match=f"`{name}` has no meaning"):
                safe(*loss.batch(4), **{name: given})


def test_a_loss_of_the_whole_batch_takes_none() -> None:
    x, y = torch.randn(3, 2, 4), torch.rand(3, 2, 4)
    loss = safeloss.DiceLoss(per_batch=True)
    assert loss(x, y).isfinite()
    given = {"mask": y[:, 0, 0] > 2, "sample_weight": torch.ones(3), "denominator": 3}
    for name, value in given.items():
        with pytest.raises(safeloss.OptionError, match=f"`{name}` has no meaning.*per_batch=True"):
            loss(x, y, **{name: value})
        safeloss.DiceLoss(empty="nan")(x, y, **{name: value})


def test_a_distance_that_leaves_other_axes_is_refused() -> None:
    points = torch.randn(3, 4, 5)
    with pytest.raises(safeloss.LayoutError, match="enlarge"):
        SF.triplet_margin_with_distance_loss(
            *points,
            distance_function=lambda a, b: (a - b).abs().sum((0, 1)),
            mask=points[0, :, 0] > 0,
        )


# As they are asked for ----------------------------------------------------------------------------


def test_token_counts_of_micro_batches_make_one_batch() -> None:
    """The gradients of accumulated micro-batches of unequal length are those of one batch."""
    x, y = torch.randn(4, 6, 9).double(), torch.randint(9, (4, 6))
    y[0, 1:], y[2, 4:] = -100, -100
    model = nn.Linear(9, 9).double()
    loss = safeloss.SafeCrossEntropyLoss(class_dim=-1)
    (whole,) = torch.autograd.grad(F.cross_entropy(model(x).movedim(-1, 1), y), model.weight)
    count = (y != -100).sum()
    for rows in (slice(0, 1), slice(1, 4)):
        loss(model(x[rows]), y[rows], denominator=count).backward()
    torch.testing.assert_close(model.weight.grad, whole)


def test_a_loss_function_as_trainers_ask_for_it() -> None:
    """`compute_loss_func(outputs, labels, num_items_in_batch)`, of `transformers`."""
    loss = safeloss.SafeCrossEntropyLoss(class_dim=-1)

    def compute_loss(outputs: dict[str, Tensor], labels: Tensor, num_items_in_batch: Any = None):
        return loss(outputs["logits"], labels, denominator=num_items_in_batch)

    outputs = {"logits": torch.randn(2, 5, 7)}
    labels = torch.tensor([[1, 2, 3, -100, -100], [4, 5, -100, -100, -100]])
    expected = F.cross_entropy(outputs["logits"].flatten(0, 1), labels.flatten())
    for count in (None, 5, torch.tensor(5)):
        torch.testing.assert_close(compute_loss(outputs, labels, count), expected)
