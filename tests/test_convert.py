"""Losses that PyTorch's own modules become, wherever they are held, and the way back."""

import copy
import pickle
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from losses import LOSSES, Drawn, Loss, build, equal
from torch import Tensor, nn

import safeloss

PAIRS = [
    loss for loss in LOSSES if loss.native in safeloss.SAFE and loss.safe.__name__[:4] == "Safe"
]
over_losses = pytest.mark.parametrize("loss", PAIRS, ids=str)


def pair(loss: Loss) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    """Two native ones with equal state, and inputs."""
    native = build(loss, Drawn([], loss.options))[1]
    return native, copy.deepcopy(native), loss.batch(4)


def test_every_loss_is_converted() -> None:
    assert {loss.native for loss in PAIRS} == set(safeloss.SAFE)


@over_losses
def test_the_loss_itself_becomes_safe_with_its_state(loss: Loss) -> None:
    converted, native, inputs = pair(loss)
    parameters = [*converted.parameters()]
    assert safeloss.convert(converted) is converted
    assert type(converted) is loss.safe
    assert all(one is other for one, other in zip(converted.parameters(), parameters, strict=True))
    assert converted.training is native.training
    made = build(loss, Drawn([], loss.options))[0]
    assert repr(converted) == repr(made)
    assert vars(converted).keys() == vars(made).keys()
    for _ in range(2):
        assert equal(converted(*inputs), native(*inputs))
    with pytest.raises(safeloss.SafeLossError):
        converted(inputs[0], torch.zeros(9, 8, 7, dtype=inputs[1].dtype), *inputs[2:])
    assert equal(pickle.loads(pickle.dumps(converted))(*inputs), native(*inputs))


@over_losses
def test_the_way_back(loss: Loss) -> None:
    converted, native, inputs = pair(loss)
    safeloss.convert(converted)(*inputs)
    assert safeloss.to_native(converted) is converted
    assert type(converted) is loss.native
    assert vars(converted).keys() == vars(native).keys()
    assert repr(converted) == repr(native)
    assert equal(converted(*inputs), native(*inputs))


@over_losses
def test_hooks_stay(loss: Loss) -> None:
    native, _, inputs = pair(loss)
    seen = []
    native.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    safeloss.convert(native)(*inputs)
    safeloss.to_native(native)(*inputs)
    assert seen == [loss.safe, loss.native]


@over_losses
def test_options_go_to_the_losses_that_have_them(loss: Loss) -> None:
    native, _, _ = pair(loss)
    safeloss.convert(native, check_values="never", empty="nan", class_dim=1)
    assert native.check_values == "never"
    assert native.empty == "nan"
    assert getattr(native, "class_dim", 1) == 1


@over_losses
def test_subclasses_stay(loss: Loss) -> None:
    native, _, _ = pair(loss)
    native.__class__ = own = type("Own", (loss.native,), {})
    assert type(safeloss.convert(native)) is own


@over_losses
@pytest.mark.parametrize("way", [safeloss.convert, safeloss.to_native])
def test_a_replaced_forward_is_left_and_said(loss: Loss, way: Any) -> None:
    native, _, _ = pair(loss)
    if way is safeloss.to_native:
        safeloss.convert(native)
    before = type(native)
    native.forward = lambda *inputs: inputs[0].sum()
    with pytest.warns(safeloss.SuspiciousInputWarning, match=r"`head\.loss` .* has a `forward`"):
        way(nn.ModuleDict({"head": nn.ModuleDict({"loss": native})}))
    assert type(native) is before


def test_a_forward_replaced_for_the_class_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.MSELoss, "forward", lambda self, x, y: x.sum())
    with pytest.warns(safeloss.SuspiciousInputWarning, match=r"the loss \(MSELoss\)"):
        assert type(safeloss.convert(nn.MSELoss())) is nn.MSELoss


class Criterion:
    """A plain object with losses in its attributes, as detectors have."""

    def __init__(self) -> None:
        self.bce = nn.BCEWithLogitsLoss(reduction="none")
        self.others = {"box": nn.L1Loss(), "rest": [nn.MSELoss()]}
        self.deeper = SimpleNamespace(loss=nn.HuberLoss())


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ModuleList([nn.CrossEntropyLoss()]))
        self.criterion = Criterion()
        self.listed = [nn.MSELoss(), Criterion()]
        self.kinds = {"loss": nn.MSELoss, "torch": torch, "call": torch.relu}


def test_losses_are_found_wherever_a_module_holds_them() -> None:
    model = Detector()
    keys = [*model.state_dict()]
    safeloss.convert(model)
    assert type(model.body[1][0]) is safeloss.SafeCrossEntropyLoss
    for criterion in (model.criterion, model.listed[1]):
        assert type(criterion.bce) is safeloss.SafeBCEWithLogitsLoss
        assert criterion.bce.reduction == "none"
        assert type(criterion.others["box"]) is safeloss.SafeL1Loss
        assert type(criterion.deeper.loss) is nn.HuberLoss  # one level only
    assert type(model.listed[0]) is safeloss.SafeMSELoss
    assert model.kinds["loss"] is nn.MSELoss
    assert type(nn.MSELoss()) is nn.MSELoss
    assert [*model.state_dict()] == keys
    assert type(safeloss.to_native(model).criterion.bce) is nn.BCEWithLogitsLoss


def test_a_trainer_and_the_model_that_it_holds() -> None:
    trainer = SimpleNamespace(model=Detector(), loss=nn.MSELoss(), epochs=3, name="run")
    assert safeloss.convert(trainer) is trainer
    assert type(trainer.loss) is safeloss.SafeMSELoss
    assert type(trainer.model.criterion.bce) is safeloss.SafeBCEWithLogitsLoss


@pytest.mark.parametrize("holder", [[nn.MSELoss()], {0: nn.MSELoss()}, (nn.MSELoss(),)], ids=type)
def test_containers(holder: Any) -> None:
    safeloss.convert(holder)
    [loss] = holder.values() if isinstance(holder, dict) else holder
    assert type(loss) is safeloss.SafeMSELoss


def test_a_shared_loss_stays_shared() -> None:
    loss = nn.MSELoss()
    model = nn.ModuleList([loss, nn.ModuleList([loss])])
    model.again = SimpleNamespace(loss=loss)
    safeloss.convert(model)
    assert model[0] is model[1][0] is model.again.loss is loss
    assert type(loss) is safeloss.SafeMSELoss


def test_a_model_that_holds_itself() -> None:
    model = nn.Sequential(nn.MSELoss())
    model.parent = [model]
    assert type(safeloss.convert(model)[0]) is safeloss.SafeMSELoss


def test_twice_is_once() -> None:
    model = nn.Sequential(nn.MSELoss())
    safeloss.convert(model, empty="nan")
    assert safeloss.convert(model)[0].empty == "nan"
    assert type(safeloss.to_native(safeloss.to_native(model))[0]) is nn.MSELoss


def test_an_option_that_one_loss_refuses_changes_none() -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(5, 8, [2, 4], div_value=2.0)
    model = nn.ModuleList([nn.MSELoss(), layer])
    with pytest.raises(safeloss.OptionError, match="empty must be one of"):
        safeloss.convert(model, empty="zero")
    assert [type(module) for module in model] == [nn.MSELoss, nn.AdaptiveLogSoftmaxWithLoss]
    with pytest.raises(TypeError, match="clas_dim"):
        safeloss.convert(model, clas_dim=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_dim": -1}, "no class_dim=-1"),
        ({"class_dim": -1, "empty": "zero"}, "no class_dim=-1 and no empty='zero'"),
        ({"class_dim": 1, "empty": "raise", "check_values": "always"}, ""),
    ],
)
def test_what_pytorch_lacks_is_said(options: dict[str, Any], said: str) -> None:
    loss = safeloss.convert(nn.CrossEntropyLoss(), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        safeloss.to_native(loss)
    assert [said in str(warning.message) for warning in caught] == [True] * bool(said)


def test_multi_label_bce_becomes_the_loss_that_it_extends() -> None:
    loss = safeloss.MultiLabelBCE(num_classes=3)
    inputs = torch.randn(4, 3), torch.rand(4, 3)
    expected = loss(*inputs)
    assert type(safeloss.to_native(loss)) is nn.BCEWithLogitsLoss
    assert vars(loss).keys() == vars(nn.BCEWithLogitsLoss()).keys()
    assert torch.equal(loss(*inputs), expected)


@pytest.mark.parametrize("wrong", [nn.MSELoss, torch.nn.functional.mse_loss, torch])
def test_what_is_no_holder_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="convert: give a module or an object"):
        safeloss.convert(wrong)


def test_compiled_before_and_after() -> None:
    model = nn.ModuleDict({"head": nn.Linear(3, 1), "loss": nn.PoissonNLLLoss()})

    def step(x: Tensor, y: Tensor) -> Tensor:
        return model["loss"](model["head"](x), y)

    compiled = torch.compile(step, backend="eager")
    x, y = torch.randn(4, 3), torch.rand(4)
    right = nn.functional.poisson_nll_loss(model["head"](x)[:, 0], y)
    assert not torch.allclose(compiled(x, y), right)  # it broadcasts
    safeloss.convert(model)
    assert torch.equal(compiled(x, y), right)
