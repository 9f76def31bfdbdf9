"""Lightning."""

import pytest

pytest.importorskip("lightning")

# part: module
import lightning as L
import torch
from torch import nn

from safeloss import SafeMSELoss


class Regression(L.LightningModule):
    def __init__(self, loss: nn.Module | None = None, width: int = 8):
        super().__init__()
        self.save_hyperparameters(ignore=["loss"])
        self.loss = loss or SafeMSELoss()
        self.model = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1))

    def training_step(self, batch, _):
        x, y = batch
        return self.loss(self.model(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


# end

# part: cli
CONFIG = """
model:
  class_path: test_lightning.Regression  # your own module
  init_args:
    width: 8
    loss:
      class_path: safeloss.SafeHuberLoss
      init_args: {delta: 0.5}
"""
# end

from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from samples import loader, regression, weights

import safeloss
from safeloss import LayoutError, SafeHuberLoss


class Curve(L.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].item())


def trainer(*callbacks: L.Callback, epochs: int = 2, folder: Any = None) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=folder is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def made(loss: nn.Module | None = None) -> Regression:
    torch.manual_seed(0)
    return Regression(loss)


def curve(loss: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    seen, module = Curve(), made(loss)
    trainer(seen).fit(module, loader(x, y))
    return [*seen.losses, *weights(module)]


def test_targets_without_the_axis_of_the_scores() -> None:
    x, y = regression()
    right = curve(nn.MSELoss(), x, y.view(-1, 1))
    assert curve(nn.MSELoss(), x, y) != right, "Lightning trains it without a word"
    assert curve(SafeMSELoss(), x, y.view(-1, 1)) == right
    assert curve(SafeMSELoss(), x, y) == right


def test_what_does_not_fit_is_refused() -> None:
    x, y = regression()
    with pytest.raises(LayoutError) as refused:
        curve(SafeMSELoss(), x, y.view(1, -1).expand(256, -1))
    assert "self.model(x)" in str(refused.value)


def test_a_module_is_converted_whole() -> None:
    x, y = regression()
    module = safeloss.convert(made(nn.MSELoss()))
    seen = Curve()
    trainer(seen).fit(module, loader(x, y))
    assert [*seen.losses, *weights(module)] == curve(nn.MSELoss(), x, y.view(-1, 1))


def test_resumed_from_a_checkpoint(tmp_path) -> None:
    x, y = regression()
    whole = curve(SafeMSELoss(), x, y)
    saving = ModelCheckpoint(tmp_path, save_last=True)
    trainer(saving, epochs=1, folder=tmp_path).fit(made(), loader(x, y))
    loaded = Regression.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert type(loaded.loss) is SafeMSELoss
    assert loaded.hparams == {"width": 8}
    seen, module = Curve(), Regression()
    trainer(seen, folder=tmp_path).fit(module, loader(x, y), ckpt_path=tmp_path / "last.ckpt")
    assert [*seen.losses, *weights(module)] == whole[8:]


def test_a_checkpoint_may_hold_the_loss_as_hyperparameter(tmp_path) -> None:
    class Kept(Regression):
        def __init__(self, loss: nn.Module):
            super().__init__(loss)
            self.save_hyperparameters()

    x, y = regression()
    saving = ModelCheckpoint(tmp_path, save_last=True)
    trainer(saving, epochs=1, folder=tmp_path).fit(Kept(SafeHuberLoss(delta=0.5)), loader(x, y))
    loaded = Kept.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    assert type(loaded.loss) is SafeHuberLoss
    assert loaded.loss.delta == 0.5


def test_the_command_line_builds_the_loss(tmp_path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    cli = LightningCLI(
        run=False,
        args=["--config", str(tmp_path / "config.yaml")],
        save_config_callback=None,
        trainer_defaults={"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
    )
    assert type(cli.model.loss) is SafeHuberLoss
    assert cli.model.loss.delta == 0.5
    x, y = regression()
    cli.model.training_step((x, y), 0).backward()


class WithLoss(nn.Module):
    def __init__(self, module: Regression) -> None:
        super().__init__()
        self.model, self.loss = module.model, module.loss

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.model(x), y)


def test_exported_with_the_loss() -> None:
    x, y = regression()
    module = made()
    exported = torch.export.export(WithLoss(module), (x, y)).module()
    assert torch.equal(exported(x, y), module.training_step((x, y), 0))
