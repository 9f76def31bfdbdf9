"""Settings for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn
from torch.nn.modules import module

from safeloss import functional
from safeloss._messages import stack as _frames

for profile, examples in (("quick", 25), ("thorough", 500)):
    settings.register_profile(
        profile,
        deadline=None,  # a noisy machine is no failure
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=examples,
    )
collect_ignore = ["beginners"]  # scripts that are read and never run
torch.set_num_threads(1)  # a worker of pytest's has a core
settings.load_profile(os.environ.get("SAFELOSS_EXAMPLES", "quick"))


os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
TRAINERS = Path(__file__).parent / "trainers"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trainers warn of much that is none of our business; our own warnings stay errors."""
    for item in items:
        if TRAINERS in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("error::safeloss.SuspiciousInputWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="rewrite the golden messages")


def pytest_configure(config: pytest.Config) -> None:
    """What wraps a loss that this PyTorch lacks cannot be imported for its examples."""
    if not hasattr(nn, "LinearCrossEntropyLoss"):
        wraps = [f"safeloss/{folder}/linear.py" for folder in ("functional", "losses")]
        absent = [str(config.rootpath / file) for file in wraps]
        config.option.ignore = [*(config.option.ignore or ()), *absent]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _forgetful() -> None:
    """What functions have learnt, and what was warned of, is kept for the process: begin anew."""
    _frames._warned.clear()
    for name in functional.__all__:
        signature = getattr(functional, name).signature
        signature.memory.__init__(unread=False)
        signature.sites.clear()
        signature.module_sites.clear()


@pytest.fixture(autouse=True)
def _unhooked() -> Iterator[None]:
    """An export that fails leaves a hook on buffers behind in torch 2.6, which fails in all code
    that is compiled later and registers one, as the making of PyTorch's own losses does."""
    yield
    module._global_buffer_registration_hooks.clear()


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict[str, object]) -> None:
    doctest_namespace["torch"] = torch
