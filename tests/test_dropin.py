"""Wherever PyTorch's loss works, ours does: every loss against every way that a module is used."""

import contextlib
import copy
import functools
import gc
import inspect
import io
import pickle
import threading
import typing
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from losses import AT_CALL, LOSSES, OURS, WITH_FUNCTIONS, Drawn, Loss, build, equal, several
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.modules.loss import _Loss
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

import safeloss

over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
over_functions = pytest.mark.parametrize("loss", WITH_FUNCTIONS, ids=str)


def pair(loss: Loss, n: int = 4) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    return *build(loss, Drawn([], loss.options)), loss.batch(n)


def natively(call: Callable[[], Any]) -> Any:
    """What PyTorch gives; where it gives nothing, there is nothing to be equal to."""
    try:
        return call()
    except Exception as error:  # whatever it is, PyTorch cannot do it
        pytest.skip(f"PyTorch: {type(error).__name__}")


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
    assert all(p.kind is p.KEYWORD_ONLY and p.name in (*OURS, *AT_CALL) for p in extra)
    shared = [(p.name, p.kind, p.default) for p in parameters if p.name in expected]
    assert shared == [(p.name, p.kind, p.default) for p in expected.values()]


@over_functions
def test_the_module_has_the_kernels_layouts(loss: Loss) -> None:
    forward = inspect.signature(loss.safe.forward).parameters
    kernel = inspect.signature(loss.kernel).parameters
    required = [p for p in kernel.values() if p.default is p.empty or p.name in AT_CALL]
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
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_loads_as_weights_where_native_does(loss: Loss, used: bool) -> None:
    """With our class allowed where PyTorch's was."""
    safe, native, inputs = pair(loss)
    files = io.BytesIO(), io.BytesIO()
    for module, file in zip((native, safe), files):
        if used:
            module(*inputs)
        torch.save(module, file)
    allowed = []
    for module, file in zip((native, safe), files):
        file.seek(0)
        names = set(get_unsafe_globals_in_checkpoint(file))
        kind = type(module)
        allowed.append(names - {f"{kind.__module__}.{kind.__qualname__}"})
        assert len(allowed[-1]) == len(names) - 1
    assert allowed[0] == allowed[1]
    others = [nn.Linear, nn.Sequential, nn.ModuleList, set]  # of the layers
    for file in files:
        file.seek(0)
    with safe_globals([loss.native, loss.safe, *others]):
        natively(lambda: torch.load(files[0], weights_only=True))
        again = torch.load(files[1], weights_only=True)
    assert equal(again(*inputs), native(*inputs))
    with pytest.raises(safeloss.SafeLossError):
        again(*wrong(inputs))


PICKLES = {
    "bce_with_logits-0.1.0.pt": torch.load,
    "cross_entropy-0.1.0.pkl": lambda path, weights_only: pickle.loads(path.read_bytes()),
}


@pytest.mark.parametrize("name", PICKLES)
def test_what_version_0_1_0_wrote(name: str) -> None:
    loss = PICKLES[name](Path(__file__).parent / "pickles" / name, weights_only=False)
    native = copy.deepcopy(loss)
    native.__class__ = type(loss).__mro__[2]
    assert type(native) in safeloss.SAFE
    x = torch.randn(4, 3)
    target = torch.rand(4, 3) if "bce" in name else torch.randint(3, (4,))
    for _ in range(2):
        assert torch.equal(loss(x, target), native(x, target))
    with pytest.raises(safeloss.SafeLossError):
        loss(x, target[:3])
    assert repr(loss)
    assert torch.equal(pickle.loads(pickle.dumps(loss))(x, target), native(x, target))


@over_losses
@pytest.mark.parametrize("lacking", ["check_values", "empty", "class_dim", "_memory"])
def test_what_lacks_an_option_has_its_default(loss: Loss, lacking: str) -> None:
    """As a pickle that was made when there were fewer of them."""
    safe, native, inputs = pair(loss)
    if lacking not in vars(safe):
        pytest.skip("no option of this loss")
    shown = repr(safe)
    for use in (
        lambda: safe,
        lambda: pickle.loads(pickle.dumps(safe)),
        lambda: copy.deepcopy(safe),
    ):
        vars(safe).pop(lacking, None)
        for _ in range(2):
            assert equal(use()(*inputs), native(*inputs))
        assert repr(use()) == shown


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
    export = functools.partial(
        torch.export.export, args=tuple(inputs), dynamic_shapes=shapes, strict=strict
    )
    try:
        program = export(safe)
    except Exception:
        natively(lambda: export(native))
        raise
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
    if not issubclass(loss.native, nn.AdaptiveLogSoftmaxWithLoss):  # which PyTorch cannot do
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
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # PyTorch compares sizes
def test_jit_trace(loss: Loss) -> None:
    safe, native, inputs = pair(loss)
    if issubclass(loss.native, nn.AdaptiveLogSoftmaxWithLoss):
        pytest.skip("a trace of PyTorch's holds for the very targets that it has seen")
    traced = torch.jit.trace(safe, tuple(inputs))
    assert several(traced(*loss.batch(4)))[-1].isfinite()
    other = loss.batch(9)
    assert equal(traced(*other), native(*other))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # PyTorch compares sizes
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
    assert set(seen[1]) <= set(seen[0]), "a mode sees of ours what it sees of PyTorch's"
    with torch.device("cpu"):
        assert equal(safe(*inputs), native(*inputs))


class Model(nn.Module):
    """A model that holds a loss, which it does not use where it is deployed."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 5)
        self.criterion = loss

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def scripted(module: nn.Module, *inputs: Tensor) -> Any:
    """What `torch.jit.script` makes of a module, saved and loaded, gives for `inputs`."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    return torch.jit.load(file)(*inputs)


@pytest.mark.parametrize("loss", WITH_FUNCTIONS, ids=str)
def test_functions_are_scripted_where_natives_are(loss: Loss) -> None:
    inputs = loss.batch(4)
    expected = natively(lambda: torch.jit.script(loss.native_kernel)(*inputs))
    assert equal(torch.jit.script(loss.kernel)(*inputs), expected)


@over_losses
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_scripts_where_native_does(loss: Loss, used: bool) -> None:
    safe, native, inputs = pair(loss)
    if used:
        safe(*inputs)
    x = torch.randn(2, 4)
    natively(lambda: scripted(Model(native), x))
    model = Model(safe)
    assert torch.equal(scripted(model, x), model(x))
    expected = natively(lambda: scripted(native, *inputs))
    assert equal(scripted(safe, *inputs), expected)


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
    with pytest.raises(safeloss.DTypeError, match=r"\] Doubled: "):
        loss(x, target.float())


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_subclass_may_have_other_defaults(loss: Loss) -> None:
    """Which what is said to the constructor goes before, be it PyTorch's own default."""

    class Quiet(loss.safe):
        check_values, empty = "never", "nan"

    class Summed(Quiet):
        def __init__(self, **options) -> None:
            super().__init__(**options)
            self.own = True

    for kind in (Quiet, Summed):
        assert (kind(**loss.options).empty, kind(**loss.options).check_values) == ("nan", "never")
        made = kind(**loss.options, empty="warn", check_values="first")
        assert (made.empty, made.check_values) == ("warn", "first")
        assert copy.deepcopy(kind(**loss.options)).empty == "nan"
        assert kind(**loss.options, empty="raise").empty == "raise"
        assert "empty" not in repr(kind(**loss.options))
    assert loss.safe(**loss.options).empty == "warn"

    class Wrong(loss.safe):
        empty = "maybe"

    with pytest.raises(safeloss.OptionError, match="maybe"):
        Wrong(**loss.options)


class Zero(safeloss.SafeCrossEntropyLoss):
    empty, class_dim = "zero", -1


class Inside(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def forward(self, input, target):
        return Zero(**self.options)(input, target)


@pytest.mark.slow
def test_so_may_one_that_is_made_in_compiled_code() -> None:
    torch._dynamo.reset()
    x, target = torch.zeros(0, 5, 3), torch.zeros(0, 5).long()
    for options, expected in (({}, 0.0), ({"empty": "nan"}, None), ({"empty": "zero"}, 0.0)):
        for model in (Inside(**options), torch.compile(Inside(**options), backend="eager")):
            value = model(x, target)
            assert value.isnan() if expected is None else value == expected
    assert torch.compile(Inside(empty="warn"), backend="eager")(x, target).isnan()


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
    """PyTorch takes it too, and it is known by its shape like any other."""
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


def made_without_our_constructor(loss: Loss) -> Iterator[nn.Module]:
    """Modules that are ours, though nothing of ours has made them."""
    _, native, _ = pair(loss)

    class Bare(loss.safe):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            vars(self).update(vars(copy.deepcopy(native)))

    class ByTheNative(loss.safe):
        def __init__(self) -> None:
            loss.native.__init__(self, **loss.options)
            self.load_state_dict(native.state_dict())

    yield Bare()
    yield ByTheNative()
    turned = copy.deepcopy(native)
    turned.__class__ = loss.safe
    yield turned
    replica = turned._replicate_for_data_parallel()
    replica._parameters = dict(turned._parameters)  # as `nn.parallel.replicate` does
    yield replica
    yield copy.deepcopy(turned)
    shallow = copy.copy(turned)
    yield shallow


@over_losses
def test_modules_need_no_constructor_of_ours(loss: Loss) -> None:
    _, _, inputs = pair(loss)
    torch.manual_seed(1)
    for module in made_without_our_constructor(loss):
        native = copy.deepcopy(module)
        native.__class__ = loss.native
        shown = repr(module).partition("(")[2]
        assert shown == repr(native).partition("(")[2]
        for _ in range(2):
            assert equal(module(*inputs), native(*inputs))
        assert equal(copy.deepcopy(module)(*inputs), native(*inputs))
        with pytest.raises(safeloss.SafeLossError):
            module(*wrong(inputs))
        if "reduction" in vars(native):
            module.reduction = native.reduction = "sum"
            assert equal(module(*inputs), native(*inputs))
        assert not {"empty", "check_values"} & set(module.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "way"),
    [(loss, way) for way in ("exported", "scripted") for loss in LOSSES]
    + [(loss, "compiled") for loss in LOSSES[::6]],
)
def test_modules_that_never_ran_need_none_either(loss: Loss, way: str) -> None:
    torch._dynamo.reset()
    _, native, inputs = pair(loss)
    turned = copy.deepcopy(native)
    turned.__class__ = loss.safe
    ways = {
        "compiled": lambda module: torch.compile(module, backend="eager")(*inputs),
        "exported": lambda module: torch.export.export(module, tuple(inputs)).module()(*inputs),
        "scripted": lambda module: scripted(module, *inputs),
    }
    natively(lambda: way == "compiled" or ways[way](native))
    value = ways[way](turned)
    assert all(map(torch.allclose, several(value), several(native(*inputs))))
    assert equal(turned(*inputs), native(*inputs))


@over_losses
def test_reduction_may_be_computed(loss: Loss) -> None:
    """By a property, which a subclass has in the place of the attribute."""
    _, native, inputs = pair(loss)
    if "reduction" not in vars(native):
        pytest.skip("torch has no reduction here")

    class Computed(loss.safe):
        chosen: typing.ClassVar[list[str]] = []

        @property
        def reduction(self) -> str:
            return self.chosen[-1]

        @reduction.setter
        def reduction(self, value: str) -> None:
            self.chosen.append(value)

    safe = Computed(**loss.options)
    safe.load_state_dict(native.state_dict())
    for reduction in ("sum", "none", native.reduction, "sum"):
        safe.reduction = native.reduction = reduction
        for _ in range(2):
            assert equal(safe(*inputs), native(*inputs))
    for option in {"empty", "check_values"} & set(vars(safe)):
        assert f"{option}=" not in repr(safe)
    with pytest.raises(safeloss.SafeLossError):
        safe(*wrong(inputs))


@over_losses
def test_the_representation_shows_what_is_not_the_default(loss: Loss) -> None:
    _, native, _ = pair(loss)
    chosen: dict[str, Any] = {"check_values": "never", "empty": "nan"}
    listed = inspect.signature(loss.safe).parameters
    chosen |= {"class_dim": -1} if "class_dim" in listed else {}
    for option, value in chosen.items():
        safe = loss.safe(**loss.options, **{option: value})
        assert f"{option}={value!r}" in repr(safe)
        for other in chosen.keys() - {option}:
            assert f"{other}=" not in repr(safe)
        setattr(safe, option, listed[option].default)
        assert repr(safe) == repr(native).replace(loss.native.__name__, loss.safe.__name__)


@over_losses
def test_forward_knows_its_class(loss: Loss) -> None:
    """Profiles, tracebacks and pickles name it so."""
    safe, native, inputs = pair(loss)
    forward = loss.safe.forward
    assert forward.__qualname__ == f"{loss.safe.__name__}.forward"
    assert forward.__module__ == loss.safe.__module__
    assert pickle.loads(pickle.dumps(forward)) is forward
    assert copy.deepcopy(forward) is forward
    bound = pickle.loads(pickle.dumps(safe.forward))
    assert equal(bound(*inputs), native(*inputs))
    with pytest.raises(TypeError, match=rf"{loss.safe.__name__}\.forward"):
        safe()


@over_losses
def test_type_hints_are_those_of_the_signature(loss: Loss) -> None:
    parameters = list(inspect.signature(loss.native.forward).parameters)[1:]
    hints = typing.get_type_hints(loss.safe.forward, include_extras=True)
    assert list(hints)[: len(parameters)] == parameters
    assert loss.safe.forward.__annotations__ == hints
    if loss.kernel is not None:
        hints = typing.get_type_hints(loss.kernel, include_extras=True)
        assert set(parameters) - {"log_input"} <= set(hints)


def test_the_classes_that_others_ask_for() -> None:
    """`isinstance` is how others choose, and by the bases too."""
    for native, safe in safeloss.SAFE.items():
        assert issubclass(safe, native)
        assert issubclass(safe, _Loss) == issubclass(native, _Loss)
        assert [base for base in native.__mro__ if base in safe.__mro__] == list(native.__mro__)


# What is left behind -----------------------------------------------------------------------------


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@over_losses
def test_no_tensor_is_kept(loss: Loss) -> None:
    """By a call that is refused, by one that fails in PyTorch, and by one that is fine."""
    always = loss.safe(**loss.options, check_values="always")
    faces: list[Callable[..., Any]] = [pair(loss)[0], always]
    if loss.kernel is not None:
        faces.append(functools.partial(loss.kernel, **loss.options))

    def too_many(inputs: list[Tensor]) -> list[Any]:
        return [*wrong(inputs)]

    def elsewhere(inputs: list[Tensor]) -> list[Any]:
        return [inputs[0], *[x.to("meta") for x in inputs[1:]]]

    def no_tensor(inputs: list[Tensor]) -> list[Any]:
        return [inputs[0], None, *inputs[2:]]

    with contextlib.suppress(Exception):  # PyTorch keeps the frames of its own first error
        pair(loss)[1](*elsewhere(loss.batch(4)))
    for face in faces:
        for change in (list, too_many, elsewhere, no_tensor, list, elsewhere):
            inputs = change(loss.batch(4))
            kept = [weakref.ref(x) for x in inputs if isinstance(x, Tensor)]
            with no_collector():
                with contextlib.suppress(Exception):
                    face(*inputs)
                del inputs
                assert not [x for x in kept if x() is not None], change.__name__


def test_a_refused_model_keeps_no_activation() -> None:
    """Those who shrink the batch and go on need the memory."""
    loss, layer = safeloss.SafeCrossEntropyLoss(), nn.Linear(3, 3)
    with no_collector():
        for target in (torch.zeros(5).long(), torch.full((4,), 7)):
            hidden = layer(torch.randn(4, 3))
            kept = weakref.ref(hidden)
            with pytest.raises(safeloss.SafeLossError) as refusal:
                loss(hidden, target)
            assert refusal.value.__context__ is None or refusal.value.__suppress_context__
            del hidden, refusal
            assert kept() is None


# Several at once ---------------------------------------------------------------------------------


@over_losses
def test_threads_share_a_module(loss: Loss) -> None:
    safe, native, _ = pair(loss)
    batches = [loss.batch(n) for n in range(2, 12)]
    expected = [native(*inputs) for inputs in batches]
    right: list[bool] = []

    def work() -> None:
        right.extend([equal(safe(*inputs), value) for inputs, value in zip(batches, expected)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 40


# Jagged tensors ----------------------------------------------------------------------------------

ELEMENTWISE = [x for x in WITH_FUNCTIONS if len({t.shape for t in x.batch(2)} | {(2, 1)}) == 1]


def jagged(*lengths: int) -> Tensor:
    return torch.nested.nested_tensor([torch.rand(n) for n in lengths], layout=torch.jagged)


@pytest.mark.parametrize("loss", ELEMENTWISE, ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_jagged_tensors(loss: Loss) -> None:
    """They run where they match and PyTorch knows how; else the words are plain."""
    options = {**loss.options, "reduction": "none"}
    safe, native = loss.safe(**options), loss.native(**options)
    first, *others = [jagged(3, 5) for _ in loss.batch(2)]
    with pytest.raises(safeloss.SafeLossError, match="same offsets") as refusal:
        safe(first, *others)
    assert not refusal.value.fixes
    with pytest.raises(safeloss.SafeLossError):
        safe(first, *[torch.rand(2, 5) for _ in others])
    matching = [torch.nested.nested_tensor_from_jagged(x.values(), first.offsets()) for x in others]
    expected = natively(lambda: native(first, *matching))
    for _ in range(2):
        assert torch.equal(safe(first, *matching).values(), expected.values())
