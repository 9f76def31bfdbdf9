"""Wherever native works, ours does: every loss against every way that a module is used."""

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from losses import LOSSES, OURS, WITH_FUNCTIONS, Drawn, Loss, build, equal, several
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import safeloss

over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
over_functions = pytest.mark.parametrize("loss", WITH_FUNCTIONS, ids=str)


def pair(loss: Loss, n: int = 4) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    return *build(loss, Drawn([], loss.options)), loss.batch(n)


def natively(call: Callable[[], Any]) -> Any:
    """What native gives; where it gives nothing, there is nothing to be equal to."""
    try:
        return call()
    except Exception as error:  # whatever it is, native cannot do it
        pytest.skip(f"native: {type(error).__name__}")


def wrong(inputs: list[Tensor]) -> list[Tensor]:
    """The same with a second input that fits nothing."""
    return [inputs[0], torch.zeros(99, 98, 97, dtype=inputs[1].dtype), *inputs[2:]]


@over_losses
def test_is_torchs_own_module(loss: Loss) -> None:
    safe, native, _ = pair(loss)
    assert isinstance(safe, loss.native)
    assert repr(safe) == repr(native).replace(loss.native.__name__, loss.safe.__name__)
    assert list(safe.state_dict()) == list(native.state_dict())
    assert list(safe.buffers()) == list(native.buffers())


@over_losses
@pytest.mark.parametrize("face", ["__init__", "forward"])
def test_signatures_are_torchs_and_then_ours(loss: Loss, face: str) -> None:
    check_signature(getattr(loss.safe, face), getattr(loss.native, face))


@over_functions
def test_signatures_of_functions_are_torchs_and_then_ours(loss: Loss) -> None:
    check_signature(loss.kernel, loss.native_kernel)


def check_signature(ours: Callable[..., Any], native: Callable[..., Any]) -> None:
    parameters = inspect.signature(ours).parameters.values()
    expected = inspect.signature(native).parameters
    extra = [p for p in parameters if p.name not in expected]
    assert all(p.kind is p.KEYWORD_ONLY and p.name in OURS for p in extra)
    shared = [(p.name, p.kind, p.default) for p in parameters if p.name in expected]
    assert shared == [(p.name, p.kind, p.default) for p in expected.values()]


@over_functions
def test_the_module_has_the_kernels_layouts(loss: Loss) -> None:
    forward = inspect.signature(loss.safe.forward).parameters
    kernel = inspect.signature(loss.kernel).parameters
    required = [p for p in kernel.values() if p.default is p.empty]
    assert [p.annotation for p in forward.values()][1:] == [p.annotation for p in required]


@over_losses
def test_copies_and_pickles(loss: Loss) -> None:
    safe, native, inputs = pair(loss)
    safe(*inputs)
    stored = io.BytesIO()
    torch.save(safe, stored)
    stored.seek(0)
    copies = [
        copy.deepcopy(safe),
        pickle.loads(pickle.dumps(safe)),
        torch.load(stored, weights_only=False),
    ]
    for module in copies:
        assert equal(module(*inputs), native(*inputs))
        with pytest.raises(safeloss.SafeLossError):
            module(*wrong(inputs))


@over_losses
def test_reduction_is_mutable(loss: Loss) -> None:
    safe, native, inputs = pair(loss)
    if "reduction" not in vars(native):
        pytest.skip("torch has no reduction here")
    batchmean = "reduction" in loss.options
    for reduction in ("batchmean",) if batchmean else ("mean", "sum", "none", "mean"):
        safe.reduction = native.reduction = reduction
        assert equal(safe(*inputs), native(*inputs))


@over_losses
def test_called_by_keyword(loss: Loss) -> None:
    safe, native, inputs = pair(loss)
    names = list(inspect.signature(loss.native.forward).parameters)[1:]
    named = dict(zip(names, inputs))
    assert equal(safe(**named), native(**named))
    with pytest.raises(TypeError, match=r"missing .* required positional argument"):
        safe(inputs[0])


@over_losses
def test_legacy_reduction(loss: Loss) -> None:
    _, _, inputs = pair(loss)
    if "size_average" not in inspect.signature(loss.native).parameters:
        pytest.skip("torch has no legacy arguments here")
    for arguments in ({"size_average": False}, {"reduce": False}):
        with pytest.warns(UserWarning, match="deprecated"):
            safe, native = loss.safe(**arguments), loss.native(**arguments)
        assert equal(safe(*inputs), native(*inputs))
        with pytest.warns(UserWarning, match="deprecated"):
            assert equal(loss.kernel(*inputs, **arguments), native(*inputs))


@over_losses
def test_hooks(loss: Loss) -> None:
    safe, _, inputs = pair(loss)
    seen = []
    safe.register_forward_hook(lambda module, args, output: seen.append((len(args), output)))
    safe.register_full_backward_hook(lambda *_: seen.append("backward"))
    several(safe(inputs[0].requires_grad_(), *inputs[1:]))[-1].backward()
    assert seen[0][0] == len(inputs)
    assert seen[-1] == "backward"


@over_losses
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(loss: Loss, dtype: torch.dtype) -> None:
    safe, native, inputs = pair(loss)
    safe.check_values = "never"  # a linear layer gives no log-probabilities
    with torch.autocast("cpu", dtype=dtype):
        layer = nn.Linear(inputs[0].shape[-1], inputs[0].shape[-1])
        scores = layer(inputs[0])
        for _ in range(2):
            assert equal(safe(scores, *inputs[1:]), native(scores, *inputs[1:]))


@over_losses
def test_meta_and_fake_tensors(loss: Loss) -> None:
    safe, native, inputs = pair(loss)
    meta = [x.to("meta") for x in inputs]
    expected = natively(lambda: native(*meta))
    assert [x.shape for x in several(safe(*meta))] == [x.shape for x in several(expected)]
    with torch._subclasses.FakeTensorMode() as mode:
        fakes = [mode.from_tensor(x) for x in inputs]
        expected = natively(lambda: native(*fakes))
        assert safe(*fakes).shape == expected.shape


TRANSFORMS = {
    "grad": lambda module, x, *rest: torch.func.grad(module)(x, *rest),
    "jacrev": lambda module, x, *rest: torch.func.jacrev(module)(x, *rest),
    "hessian": lambda module, x, *rest: torch.func.hessian(module)(x, *rest),
    "jvp": lambda module, x, *rest: torch.func.jvp(
        lambda x: module(x, *rest), (x,), (torch.ones_like(x),)
    )[1],
    "vmap": lambda module, *inputs: torch.func.vmap(module)(*[torch.stack([t, t]) for t in inputs]),
}


@over_losses
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.filterwarnings("ignore:.*batchmean")  # torch's own, on what vmap leaves
@pytest.mark.parametrize("name", TRANSFORMS)
def test_func_transforms(loss: Loss, name: str) -> None:
    safe, native, inputs = pair(loss)
    expected = natively(lambda: TRANSFORMS[name](native, *inputs))
    given = several(TRANSFORMS[name](safe, *inputs))
    for ours, theirs in zip(given, several(expected), strict=True):
        assert torch.allclose(ours, theirs, equal_nan=True)


def nodes(graph: torch.fx.Graph) -> list[tuple[str, str]]:
    return [(node.op, str(node.target)) for node in graph.nodes if node.op != "placeholder"]


@over_losses
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(loss: Loss, mode: str) -> None:
    safe, native, inputs = pair(loss)
    theirs = natively(lambda: make_fx(native, tracing_mode=mode)(*inputs))
    ours = make_fx(safe, tracing_mode=mode)(*inputs)
    assert nodes(ours.graph) == nodes(theirs.graph)
    if mode == "symbolic":
        other = loss.batch(9)
        assert equal(ours(*other), native(*other))


@over_losses
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
def test_export(loss: Loss, strict: bool, dynamic: bool) -> None:
    safe, native, inputs = pair(loss)
    batch = torch.export.Dim("batch", min=2, max=1024)
    names = list(inspect.signature(loss.native.forward).parameters)[1:]
    shapes = {name: {0: batch} for name in names} if dynamic else None
    if not issubclass(loss.native, nn.GaussianNLLLoss):  # which native cannot do
        natively(
            lambda: torch.export.export(native, tuple(inputs), dynamic_shapes=shapes, strict=strict)
        )
    program = torch.export.export(safe, tuple(inputs), dynamic_shapes=shapes, strict=strict)
    other = loss.batch(9) if dynamic else inputs
    assert equal(program.module()(*other), native(*other))


@over_losses
def test_symbolic_trace_keeps_the_check(loss: Loss) -> None:
    safe, native, inputs = pair(loss)

    names = ", ".join("abcd"[: len(inputs)])

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = safe

        # As many parameters as the loss has, for `torch.fx` counts them.
        forward = eval(f"lambda self, {names}: self.loss({names})")

    traced = torch.fx.symbolic_trace(Model())
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["loss"]
    modules = [traced]
    if not issubclass(loss.native, nn.AdaptiveLogSoftmaxWithLoss):  # which native cannot do
        modules.append(torch.fx.symbolic_trace(safe))
    if loss.kernel is not None:
        scope = {"kernel": loss.kernel, "options": loss.options}
        kernel = eval(f"lambda {names}: kernel({names}, **options)", scope)
        modules.append(torch.fx.symbolic_trace(kernel))
    for module in modules:
        assert equal(module(*inputs), native(*inputs))
        with pytest.raises(safeloss.SafeLossError):
            module(*wrong(inputs))


@over_losses
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # native compares sizes
def test_jit_trace(loss: Loss) -> None:
    safe, native, inputs = pair(loss)
    if issubclass(loss.native, nn.AdaptiveLogSoftmaxWithLoss):
        pytest.skip("a trace of native's holds for the very targets that it has seen")
    traced = torch.jit.trace(safe, tuple(inputs))
    assert several(traced(*loss.batch(4)))[-1].isfinite()
    other = loss.batch(9)
    assert equal(traced(*other), native(*other))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # native compares sizes
def test_jit_trace_of_a_normalised_call_holds_for_every_batch() -> None:
    traced = torch.jit.trace(
        safeloss.SafeBCEWithLogitsLoss(), (torch.randn(4, 1), torch.ones(4).long())
    )
    x, y = torch.randn(9, 1), torch.ones(9).long()
    assert equal(traced(x, y), nn.BCEWithLogitsLoss()(x, y.float().view(9, 1)))


@over_losses
def test_torch_function_modes_and_subclasses(loss: Loss) -> None:
    safe, native, inputs = pair(loss)

    class Mine(Tensor):
        pass

    wrapped = [x.as_subclass(Mine) for x in inputs]
    for _ in range(2):
        values = several(safe(*wrapped))
        assert all(type(value) is Mine for value in values)
        assert equal(tuple(value.as_subclass(Tensor) for value in values), native(*inputs))

    class Calls(torch.overrides.TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.functions = []

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.functions.append(func)
            return func(*args, **(kwargs or {}))

    seen = []
    for module in (safe, native):
        with Calls() as mode:
            module(*inputs)
        seen.append(mode.functions)
    assert set(seen[1]) <= set(seen[0]), "all that is shown of native"
    with torch.device("cpu"):
        assert equal(safe(*inputs), native(*inputs))


def test_the_canonical_name() -> None:
    assert safeloss.SafeCrossEntropy is safeloss.SafeCrossEntropyLoss
    assert repr(safeloss.SafeCrossEntropy()) == "SafeCrossEntropyLoss()"


# Subclasses --------------------------------------------------------------------------------------


class Doubled(safeloss.SafeCrossEntropyLoss):
    """What users write over native losses: more, around what the loss does."""

    def forward(self, input, target):
        return 2 * super().forward(input, target)


class Holder(nn.Module):
    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, input, target):
        return self.loss(input, target)


def test_a_subclass_with_a_forward_of_its_own() -> None:
    weight, x, target = torch.rand(3), torch.randn(4, 3), torch.zeros(4).long()
    loss, expected = Doubled(weight), 2 * nn.functional.cross_entropy(x, target, weight)
    for _ in range(2):
        assert torch.equal(loss(x, target), expected)
    holder = Holder(loss)
    assert torch.equal(torch.fx.symbolic_trace(holder)(x, target), expected)
    torch._dynamo.reset()
    compiled = torch.compile(holder, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, target), expected)
    with pytest.raises(safeloss.DTypeError, match=r"^Doubled: "):
        loss(x, target.float())


class Annealed(safeloss.SafeSmoothL1Loss):
    scale = 4.0

    @property
    def beta(self) -> float:
        return vars(self)["beta"] * self.scale

    @beta.setter
    def beta(self, value: float) -> None:
        vars(self)["beta"] = value


def test_a_subclass_that_computes_an_attribute() -> None:
    loss, x, y = Annealed(check_values="never"), torch.zeros(5), torch.ones(5)
    for _ in range(3):
        assert loss(x, y) == nn.functional.smooth_l1_loss(x, y, beta=4.0)
    assert len(loss._memory.plans) == 1
    loss.scale = 1.0
    assert loss(x, y) == nn.functional.smooth_l1_loss(x, y, beta=1.0)


def test_a_weight_that_is_a_parameter() -> None:
    """Which native takes too, and which is known by its shape like any other."""
    loss, native = safeloss.SafeBCEWithLogitsLoss(), nn.BCEWithLogitsLoss()
    for module in (loss, native):
        del module.pos_weight
        module.pos_weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]), requires_grad=False)
    for batch in (4, 4, 5, 6):
        x, target = torch.randn(batch, 3), torch.rand(batch, 3)
        assert torch.equal(loss(x, target), native(x, target))
    assert len(loss._memory.plans.forms) == 1
    with pytest.raises(safeloss.LayoutError):
        loss(torch.randn(4, 2), torch.rand(4, 2))


def test_a_trace_leaves_nothing_to_go_by() -> None:
    loss = safeloss.SafeCrossEntropyLoss(check_values="never")
    torch.jit.trace(Holder(loss), (torch.randn(2), torch.tensor(True)))
    with pytest.raises(safeloss.DTypeError):  # a bool names one of two classes, not of five
        loss(torch.randn(5), torch.tensor(True))
