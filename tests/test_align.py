"""`align`: a view with the axes of the other, or a refusal whose fixes work."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.fx.experimental.proxy_tensor import make_fx

import safeloss
from safeloss import ArgumentTypeError, LayoutError, align
from safeloss._contract.patterns import fits

B, C, T, H, W = 4, 3, 5, 6, 7

ACCEPTED = [
    # target,       like
    ((B,), (B,)),
    ((B, C), (B, C)),
    ((), ()),
    ((B,), (B, 1)),
    ((B, 1), (B,)),
    ((B,), (1, B)),
    ((1, B), (B,)),
    ((B, T), (B, T, 1)),
    ((B, H, W), (B, 1, H, W)),
    ((B, 1, H, W), (B, H, W)),
    ((B, 3), (B, 3, 1, 1)),
    ((B, 1, C, 1), (B, C)),
    ((), (1,)),
    ((1, 1, 1), ()),
    ((1,), (1, 1)),  # a last batch of one
    ((), (1, 1)),
    ((0,), (0, 1)),
]
accepted = pytest.mark.parametrize(("shape", "like"), ACCEPTED)


def numbered(*shape: int, **options: object) -> Tensor:
    return torch.arange(torch.Size(shape).numel(), **options).reshape(shape)


@accepted
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.complex64])
def test_accepted_as_a_view(shape, like, dtype) -> None:
    target, scores = numbered(*shape).to(dtype), torch.randn(like)
    for _ in range(2):  # the second call takes the short way
        aligned = align(target, like=scores)
        assert aligned.shape == like
        assert aligned.dtype == dtype
        assert aligned.data_ptr() == target.data_ptr()
        assert aligned.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()
        assert torch.equal(aligned.flatten(), target.flatten())


@given(shape=st.lists(st.integers(1, 3), max_size=4), data=st.data())
def test_any_strides(shape, data) -> None:
    """Elements keep their order, as `reshape` has it, and are never copied."""
    order = data.draw(st.permutations(range(len(shape))))
    longer = list(shape)
    for _ in range(data.draw(st.integers(0, 2))):
        longer.insert(data.draw(st.integers(0, len(longer))), 1)
    target, like = numbered(*shape).permute(order), torch.empty(longer)
    expected = [shape[axis] for axis in order]
    if len(longer) == len(shape):
        like = torch.empty(expected)
    elif not fits(expected, longer):
        with pytest.raises(LayoutError):
            align(target, like=like)
        return
    aligned = align(target, like=like)
    assert torch.equal(aligned, target.reshape(like.shape))
    assert aligned.untyped_storage().data_ptr() == target.untyped_storage().data_ptr()


REFUSED = [
    # target,       like,         a fix that is promised
    ((B, 1), (1, B), "target.view_as(like)"),
    ((1, B), (B, 1), "target.view_as(like)"),
    ((B, 1, T), (B, T, 1), "target.view_as(like)"),
    ((B, 1), (B, C), "target.expand_as(like)"),
    ((1, C), (B, C), "target.expand_as(like)"),
    ((), (B, C), "target.expand_as(like)"),
    ((1,), (B,), "target.expand_as(like)"),
    ((B, C), (B, 1), "like.expand_as(target)"),
    ((C,), (B, C), None),
    ((B,), (B, C), "target.unsqueeze(-1).expand_as(like)"),
    ((B,), (B, B), "target.unsqueeze(-1).expand_as(like)"),
    ((B,), (B, C, T), "target.view(-1, 1, 1).expand_as(like)"),
    ((C, B), (B, C), None),
    ((B, C), (B * C,), "target.flatten()"),
    ((B * C,), (B, C), "target.reshape(like.shape)"),
    ((B, C, T), (B, C * T), "target.flatten(1)"),
    ((B, C * T), (B, C, T), "target.reshape(like.shape)"),
    ((B, T, C), (B, C, T), None),
    ((1, B), (B, C), None),
    ((0, 2), (0,), None),
]
refused = pytest.mark.parametrize(("shape", "like", "fix"), REFUSED)


@refused
def test_refused_with_fixes_that_work(shape, like, fix) -> None:
    names = {"target": numbered(*shape), "like": torch.randn(like)}
    with pytest.raises(LayoutError) as refusal:
        align(**names)
    error = refusal.value
    assert error.loss == "align"
    assert {row.name for row in error.arguments} == {"target", "like"}
    if fix is None:
        assert not error.fixes
    else:
        assert fix in error.fixes
    for offered in error.fixes:
        edited = eval(offered, {"torch": torch, "safeloss": safeloss}, names)
        name = offered.partition(".")[0]
        mended = {**names, name: edited}
        assert align(**mended).shape == mended["like"].shape


WRONG = [
    # target,           like,          blamed
    ([1.0, 2.0], torch.zeros(2), "target"),
    (None, torch.zeros(2), "target"),
    (torch.zeros(2), (2, 1), "like"),
    (torch.zeros(2).numpy(), torch.zeros(2), "target"),
]


@pytest.mark.parametrize(("target", "like", "blamed"), WRONG)
def test_what_is_no_tensor(target, like, blamed) -> None:
    with pytest.raises(ArgumentTypeError, match=f"align: `{blamed}` must be a tensor") as refusal:
        align(target, like=like)
    assert isinstance(refusal.value, TypeError)
    for fix in refusal.value.fixes:
        names = {"target": target, "like": like}
        names[blamed] = eval(fix, {"torch": torch}, names)
        assert align(**names).shape == names["like"].shape


def test_gradients_pass_through() -> None:
    target = torch.randn(B, requires_grad=True)
    align(target, like=torch.zeros(B, 1)).mul(numbered(B, 1)).sum().backward()
    assert target.grad is not None
    assert target.grad.tolist() == [0, 1, 2, 3]


def test_the_dtype_and_the_device_are_not_its_business() -> None:
    like = torch.zeros(B, 1, dtype=torch.float16, device="meta")
    assert align(torch.ones(B, dtype=torch.bool), like=like).dtype == torch.bool
    assert align(torch.ones(B), like=like).device.type == "cpu"


# Wherever PyTorch's losses work ---------------------------------------------------------------


def difference(scores: Tensor, labels: Tensor) -> Tensor:
    return scores - align(labels, like=scores)


@accepted
def test_meta(shape, like) -> None:
    aligned = align(torch.empty(shape, device="meta"), like=torch.empty(like, device="meta"))
    assert aligned.shape == like
    assert aligned.is_meta


@refused
def test_meta_refused(shape, like, fix) -> None:
    with pytest.raises(LayoutError):
        align(torch.empty(shape, device="meta"), like=torch.empty(like, device="meta"))


@accepted
def test_vmap_over_samples(shape, like) -> None:
    scores, labels = torch.randn(2, *like), torch.randn(2, *shape)
    expected = torch.stack([difference(*sample) for sample in zip(scores, labels)])
    assert torch.equal(torch.func.vmap(difference)(scores, labels), expected)


@pytest.mark.parametrize(("shape", "like"), [row[:2] for row in REFUSED])
def test_vmap_refused(shape, like) -> None:
    with pytest.raises(LayoutError):
        torch.func.vmap(difference)(torch.randn(2, *like), torch.randn(2, *shape))


def test_vmap_over_one_of_them() -> None:
    scores, labels = torch.randn(2, B, 1), torch.randn(B)
    mapped = torch.func.vmap(difference, in_dims=(0, None))(scores, labels)
    assert torch.equal(mapped, scores - labels.view(B, 1))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(mode) -> None:
    """One view, and a trace that holds for other batches."""
    traced = make_fx(difference, tracing_mode=mode)(torch.randn(B, 1), torch.randn(B))
    calls = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert len(calls) == 2
    for batch in (1, 2, 9):
        scores, labels = torch.randn(batch, 1), torch.randn(batch)
        assert torch.equal(traced(scores, labels), difference(scores, labels))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_refused(mode) -> None:
    with pytest.raises(LayoutError):
        make_fx(difference, tracing_mode=mode)(torch.randn(B, C), torch.randn(B))


@pytest.mark.slow
@accepted
def test_compiled(shape, like) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(difference, backend="eager", fullgraph=True)
    scores, labels = torch.randn(like), torch.randn(shape)
    assert torch.equal(compiled(scores, labels), difference(scores, labels))


@pytest.mark.slow
@refused
@pytest.mark.parametrize("fullgraph", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_compiled_refused(shape, like, fix, fullgraph) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(difference, backend="eager", fullgraph=fullgraph)
    error = torch._dynamo.exc.TorchDynamoException if fullgraph else LayoutError
    with pytest.raises(error, match="align: `like` and `target` do not fit together"):
        compiled(torch.randn(like), torch.randn(shape))


@pytest.mark.slow
def test_compiled_refused_with_graph_breaks_allowed() -> None:
    """As every row of the table is, which takes a second for each and so waits for the night."""
    torch._dynamo.reset()
    compiled = torch.compile(difference, backend="eager")
    assert compiled(torch.zeros(B, 1), torch.zeros(B)).shape == (B, 1)
    with pytest.raises(LayoutError, match="align: `like` and `target` do not fit together"):
        compiled(torch.zeros(B, 1), torch.zeros(1, B))


@pytest.mark.slow
@pytest.mark.parametrize("eager_too", [False, True])
def test_compiled_over_a_varying_batch(eager_too) -> None:
    """One static graph and one dynamic, also where eager calls fill the store meanwhile."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(difference, backend=counter, fullgraph=True)
    for batch in (4, 7, 9, 12):
        scores, labels = torch.randn(batch, 1), torch.randn(batch)
        assert torch.equal(compiled(scores, labels), scores - labels.view(batch, 1))
        if eager_too:
            difference(torch.randn(batch, 1, 2), torch.randn(batch, 2))
    assert counter.frame_count == 2


def test_under_functionalization_and_grad() -> None:
    scores, labels = torch.randn(B, 1), torch.randn(B)
    loss = functools.partial(lambda labels, scores: difference(scores, labels).pow(2).sum(), labels)
    assert torch.equal(torch.func.grad(loss)(scores), 2 * difference(scores, labels))
    functional = torch.func.functionalize(difference)
    assert torch.equal(functional(scores, labels), difference(scores, labels))
