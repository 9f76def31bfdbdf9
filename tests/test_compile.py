"""Under `torch.compile`: the same graph as PyTorch's, as many of them, and the same refusals."""

import contextlib
import re
from typing import Any

import pytest
import torch
from losses import LOSSES, Drawn, Loss, build, equal
from test_rulings import ACCEPTED, REFUSED
from torch import nn
from torch._C._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.testing import CompileCounterWithBackend

import safeloss
from safeloss import SafeBCEWithLogitsLoss, SafeCrossEntropyLoss

pytestmark = pytest.mark.slow


# PyTorch reads the variance, the lengths and the classes on the host: none compiles in one graph.
# What ours makes of the variance is in test_whole_torch.py.
READ_ON_THE_HOST = (nn.GaussianNLLLoss, nn.CTCLoss, nn.AdaptiveLogSoftmaxWithLoss)
COMPILED = [loss for loss in LOSSES if loss.native not in READ_ON_THE_HOST]
over_compiled = pytest.mark.parametrize("loss", COMPILED, ids=str)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def graphs(module: nn.Module, batches: list[list[torch.Tensor]]) -> list[list[tuple[str, str]]]:
    """The graphs that a run over `batches` compiles, node by node but for names of inputs."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(module, backend=counter, fullgraph=True)
    for inputs in batches:
        compiled(*inputs)
    return [
        [(n.op, "" if n.op == "placeholder" else str(n.target)) for n in graph.graph.nodes]
        for graph in counter.graphs
    ]


def guards(module: nn.Module, inputs: list[torch.Tensor]) -> int:
    """How many conditions Dynamo checks before it runs what it compiled of `module`."""
    torch._dynamo.reset()

    def step(*inputs):
        return module(*inputs)

    torch.compile(step, backend="eager", fullgraph=True)(*inputs)
    (entry,) = _debug_get_cache_entry_list(step.__code__)
    return len(re.findall(r"\+- [A-Z_]+:", str(entry.guard_manager)))


@over_compiled
def test_the_same_graphs_as_native_over_a_varying_batch(loss: Loss) -> None:
    batches = [loss.batch(n) for n in (4, 9, 6, 17)]
    safe, native = build(loss, Drawn([], loss.options))
    ours = graphs(safe, batches)
    native = graphs(native, batches)
    assert ours == native
    assert len(ours) == 2, "one static, one dynamic"


@pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if loss.native in READ_ON_THE_HOST], ids=str
)
def test_where_native_breaks_the_graph_so_may_ours(loss: Loss) -> None:
    safe, native = build(loss, Drawn([], loss.options))
    compiled = torch.compile(safe, backend="eager")
    for n in (4, 9):
        inputs = loss.batch(n)
        assert equal(compiled(*inputs), native(*inputs))
    inputs[1] = torch.zeros(99, 98, 97, dtype=inputs[1].dtype)
    with pytest.raises(safeloss.LayoutError):
        compiled(*inputs)


some_compiled = pytest.mark.parametrize(
    # Compiling takes a second: one of each kind, and one that PyTorch leaves undefined.
    "loss",
    [
        loss
        for loss in LOSSES
        if loss.native
        in (
            nn.CrossEntropyLoss,
            nn.MultiMarginLoss,
            nn.SmoothL1Loss,
            nn.GaussianNLLLoss,
            nn.TripletMarginWithDistanceLoss,
        )
    ],
    ids=str,
)


class Inline(nn.Module):
    """A model that makes its loss at every step."""

    def __init__(self, make, options) -> None:
        super().__init__()
        self.make, self.options = make, options

    def forward(self, *inputs):
        return self.make(**self.options)(*inputs)


@some_compiled
def test_a_loss_may_be_made_inside(loss: Loss) -> None:
    """The graph is that of PyTorch's but for a note that PyTorch takes of uses of its API."""
    if loss.native in READ_ON_THE_HOST:
        pytest.skip("PyTorch breaks the graph")
    batches = [loss.batch(n) for n in (4, 9, 6)]
    ours = graphs(Inline(loss.safe, loss.options), batches)
    native = graphs(Inline(loss.native, loss.options), batches)
    logged = "_log_api_usage_once"
    assert [[node for node in graph if logged not in node[1]] for graph in ours] == [
        [node for node in graph if logged not in node[1]] for graph in native
    ]


def test_a_loss_that_is_made_inside_refuses_too() -> None:
    model = Inline(SafeCrossEntropyLoss, {"empty": "zero"})
    compiled = torch.compile(model, backend="eager")
    x, target = torch.randn(4, 3), torch.zeros(4).long()
    assert torch.allclose(compiled(x, target), model(x, target))
    with pytest.raises(safeloss.LayoutError):
        compiled(x, target[:3])
    with pytest.raises(ValueError, match="reduction"):
        torch.compile(Inline(SafeCrossEntropyLoss, {"reduction": "avg"}), backend="eager")(
            x, target
        )


@over_compiled
def test_few_guards_are_added_to_those_of_native(loss: Loss) -> None:
    """They are checked at every call; the reader itself must leave none."""
    most = 25 if torch.__version__ >= "2.8" else 34  # older ones guard on whatever is closed over
    safe, native = build(loss, Drawn([], loss.options))
    inputs = loss.batch(4)
    assert guards(safe, inputs) <= guards(native, inputs) + most


def test_a_normalised_input_is_one_view_more() -> None:
    batches = [[torch.randn(n, 1), torch.rand(n)] for n in (4, 9, 6, 17)]
    meant = [[x, y.view(-1, 1)] for x, y in batches]
    ours, native = graphs(SafeBCEWithLogitsLoss(), batches), graphs(nn.BCEWithLogitsLoss(), meant)
    assert len(ours) == len(native) == 2
    for mine, theirs in zip(ours, native):
        assert [node for node in mine if node != ("call_method", "unsqueeze")] == theirs


def by_inductor(loss: Loss) -> Any:
    """Seconds for each loss, and the graph is that of PyTorch's: but for one, every night."""
    often = loss.native is nn.CrossEntropyLoss
    return pytest.param(loss, "inductor", marks=[] if often else [pytest.mark.nightly])


@pytest.mark.parametrize(
    ("loss", "backend"),
    [*((loss, "eager") for loss in COMPILED), *map(by_inductor, COMPILED)],
    ids=str,
)
def test_marked_dynamic(loss: Loss, backend: str) -> None:
    safe, native = build(loss, Drawn([], loss.options))
    inputs = loss.batch(6)
    for x in inputs:
        torch._dynamo.mark_dynamic(x, 0)
    compiled = torch.compile(safe, fullgraph=True, backend=backend)
    assert torch.allclose(compiled(*inputs), native(*inputs))
    other = loss.batch(11)
    assert torch.allclose(compiled(*other), native(*other))


# Sizes that are numbers are compared by the same code as those that are symbols.
@pytest.mark.parametrize("dynamic", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_the_verdicts_of_eager_mode(dynamic: bool) -> None:
    """Every ruling, inside the compiler: accepted the same, refused by the same rule."""
    for loss, options, shape, target, _ in ACCEPTED:
        torch._dynamo.reset()
        module, x = loss(check_values="never", reduction="none", **options), torch.randn(shape)
        compiled = torch.compile(module, backend="eager", fullgraph=True, dynamic=dynamic)
        assert torch.equal(compiled(x, target), module(x, target)), (shape, target.shape)
    for kernel, options, shape, target, error, _ in REFUSED:
        torch._dynamo.reset()
        x = torch.randn(shape)
        with pytest.raises(error) as eager:
            kernel(x, target, **options)
        compiled = torch.compile(kernel, backend="eager", fullgraph=True, dynamic=dynamic)
        with pytest.raises(torch._dynamo.exc.Unsupported) as refusal:
            compiled(x, target, **options)
        text = str(refusal.value)
        assert error.__name__ in text, text
        assert f"{eager.value.loss}: {eager.value.rule}" in re.sub(r"\\(['\"])", r"\1", text)
        for row in eager.value.arguments:
            assert row.came in text


def test_the_same_exception_without_fullgraph() -> None:
    module = SafeCrossEntropyLoss()
    inputs = torch.randn(4, 5, 3), torch.zeros(4, 5).long()
    with pytest.raises(safeloss.LayoutError) as eager:
        module(*inputs)
    with pytest.raises(safeloss.LayoutError) as compiled:
        torch.compile(module, backend="eager")(*inputs)
    assert eager.value.rule in str(compiled.value)


def test_vmap_inside_the_compiler() -> None:
    x, target = torch.randn(4, 3), torch.randn(4, 3).softmax(1)
    function = torch.func.vmap(safeloss.functional.cross_entropy)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x, target), function(x, target))


def test_a_model_settles_its_class_axis_inside_the_compiler() -> None:
    """Tagging with a varying length does not die where it equals the number of classes."""
    module = SafeCrossEntropyLoss()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    for length in (4, 5, 7, 3, 8):  # 3 is the number of classes
        x, target = torch.randn(2, 3, length), torch.zeros(2, length).long()
        assert torch.equal(compiled(x, target), nn.functional.cross_entropy(x, target))


def test_modules_share_what_was_compiled() -> None:
    """As native ones do: what two instances have in common is compiled once."""
    counter = CompileCounterWithBackend("eager")

    @torch.compile(backend=counter, fullgraph=True)
    def step(loss, x, target):
        return loss(x, target)

    for _ in range(12):
        step(SafeCrossEntropyLoss(), torch.randn(4, 3), torch.zeros(4).long())
        step(SafeBCEWithLogitsLoss(), torch.randn(4, 3), torch.zeros(4, 3))
        step(SafeCrossEntropyLoss(), torch.randn(4, 3, 5), torch.zeros(4, 5).long())
    assert len(counter.graphs) == 3


def test_a_compilation_that_fails_settles_nothing() -> None:
    loss = SafeCrossEntropyLoss()

    @torch.compile(backend="eager", fullgraph=True)
    def step(x, target):
        print(loss(x, target).item())

    with pytest.raises(torch._dynamo.exc.Unsupported):
        step(torch.randn(4, 3, 5), torch.zeros(4, 5).long())
    assert not loss._memory.class_axis_known


def test_a_call_that_settles_nothing_leaves_the_tie() -> None:
    module = SafeCrossEntropyLoss()
    torch.compile(module, backend="eager")(torch.randn(4, 3), torch.zeros(4).long())
    with pytest.raises(safeloss.AmbiguousLayoutError):
        module(torch.randn(2, 3, 3), torch.zeros(2, 3).long())


class Kept(nn.Module):
    """The rows that are kept, of which only the data will tell how many there are."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, kept, *inputs):
        return self.loss(*[x[kept] for x in inputs])


def in_two_ways(module: nn.Module, inputs: tuple[torch.Tensor, ...], which: str):
    if which == "exported":
        return torch.export.export(module, inputs).module()
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(module, backend="eager", fullgraph=True)
        compiled(*inputs)
    return compiled


@pytest.mark.skipif(torch.__version__ < "2.8", reason="has no guard that may stay open")
@some_compiled
@pytest.mark.parametrize(
    ("which", "empty"), [("compiled", "zero"), ("exported", "zero"), ("exported", "warn")]
)
def test_rows_that_only_the_data_will_tell(loss: Loss, which: str, empty: str) -> None:
    """No row at all is the zero that was asked for, in the same graph; else NaN in silence."""
    options = {**loss.options, "empty": empty, "check_values": "never"}
    safe, native = loss.safe(**options), loss.native(**loss.options)
    inputs = loss.batch(6)
    if loss.native is nn.CrossEntropyLoss:  # with more axes PyTorch itself guards on the sizes
        inputs = [torch.randn(6, 3), torch.randint(3, (6,))]
    some, none = torch.tensor([1, 1, 1, 0, 0, 1]).bool(), torch.zeros(6).bool()
    run = in_two_ways(Kept(safe), (some, *inputs), which)
    assert torch.allclose(run(some, *inputs), Kept(native)(some, *inputs))
    value = run(none, *inputs)
    assert value == 0 if empty == "zero" else value.isnan()


@pytest.mark.parametrize("empty", ["zero", "warn", "raise"])
def test_an_empty_batch_inside_the_compiler(empty: str) -> None:
    x, target, none = torch.randn(4, 3), torch.rand(4, 3), torch.zeros(0, 3)
    compiled = torch.compile(SafeBCEWithLogitsLoss(empty=empty), backend="eager")
    assert compiled(x, target).isfinite()
    with pytest.raises(safeloss.LayoutError) if empty == "raise" else contextlib.nullcontext():
        value = compiled(none, none)
        assert value == 0 if empty == "zero" else value.isnan()
    expected = nn.functional.binary_cross_entropy_with_logits(x, target)
    assert torch.allclose(compiled(x, target), expected)


@pytest.mark.skipif(torch.__version__ < "2.8", reason="has no guard that may stay open")
@pytest.mark.parametrize("loss", ["TripletMarginLoss", "GaussianNLLLoss"])
@pytest.mark.parametrize("which", [(0,), (1, 2)])
def test_sizes_of_some_of_three_inputs_that_only_the_data_will_tell(
    loss: str, which: tuple[int, ...]
) -> None:
    safe, native = getattr(safeloss, f"Safe{loss}")(), getattr(nn, loss)()
    inputs = torch.rand(3, 4, 5).unbind()
    for index in which:
        torch._dynamo.decorators.mark_unbacked(inputs[index], 0)
    compiled = torch.compile(safe, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*inputs), native(*inputs))


@pytest.mark.skipif(torch.__version__ < "2.8", reason="has no guard that may stay open")
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("loss", ["CrossEntropyLoss", "PoissonNLLLoss", "BCEWithLogitsLoss"])
def test_sizes_that_only_the_data_will_tell(loss: str, which: tuple[int, ...]) -> None:
    """Sizes that cannot be compared while compiling are compared where the code runs."""
    safe, native = getattr(safeloss, f"Safe{loss}")(), getattr(nn, loss)()
    inputs = torch.randn(4, 3), torch.rand(4, 3)
    if loss == "CrossEntropyLoss":
        inputs = inputs[0], torch.randint(3, (4,))
    for index in which:
        torch._dynamo.decorators.mark_unbacked(inputs[index], 0)
    compiled = torch.compile(safe, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(*inputs), native(*inputs))
    with pytest.raises(Exception, match=r"4|shape|size|Eq"):
        compiled(inputs[0], inputs[1][:3])
