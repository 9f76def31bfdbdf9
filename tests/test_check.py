"""`check`: what it says of programs that are broken, and that it fails on none that learns."""

import copy
import functools
import json
import pickle
import random
import re
import subprocess
import sys
import threading
import warnings
from collections import Counter, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from check_gallery import Builder, learns
from check_gallery.broken import BROKEN
from check_gallery.healthy import HEALTHY
from check_gallery.others import OTHERS
from torch import Tensor, nn

import safeloss
from safeloss._check.checks import BEFORE, CHECKS
from safeloss._messages import catalogue

DOCS = Path(__file__).parent.parent / "docs"
GALLERY: dict[str, Builder] = {**BROKEN, **HEALTHY, **OTHERS}
NEEDS_SKLEARN = {"iris", "breast_cancer", "wine_with_nll", "digits_with_batch_norm"}


def built(name: str) -> Any:
    if name in NEEDS_SKLEARN:
        pytest.importorskip("sklearn")
    torch.manual_seed(0)
    return GALLERY[name]()


@functools.cache
def reported(name: str) -> safeloss.Check:
    training = built(name)
    return safeloss.check(
        training.model,
        training.batches[0],
        training.loss,
        step=training.step,
        optimizer=training.optimizer,
        **training.options,
    )


def codes(report: safeloss.Check, status: str) -> list[str]:
    return [line.code for line in report.lines if line.status == status]


# The gallery -------------------------------------------------------------------------------------


def test_the_gallery_is_as_large_as_it_says() -> None:
    assert len(BROKEN) == len(HEALTHY) == 30
    assert len(OTHERS) >= 10
    assert len(GALLERY) == len(BROKEN) + len(HEALTHY) + len(OTHERS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch warns of some of the faults
@pytest.mark.parametrize("name", GALLERY)
def test_a_program_is_what_it_is_called(name: str) -> None:
    assert learns(built(name)) is (name not in BROKEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEALTHY, *OTHERS])
def test_no_healthy_program_fails(name: str) -> None:
    report = reported(name)
    assert report.ok, report
    report.to_dict()


def gallery_table() -> str:
    """What stands in the docs of each broken program."""
    rows = ["| program | fails | warns |", "|---|---|---|"]
    for name in BROKEN:
        said = [", ".join(dict.fromkeys(codes(reported(name), s))) or "-" for s in ("fail", "warn")]
        rows.append(f"| {name.replace('_', ' ')} | {said[0]} | {said[1]} |")
    return "\n".join(rows)


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page says what was measured there"
)
def test_the_page_states_what_the_gallery_gives() -> None:
    page = (DOCS / "check.md").read_text()
    failing = [name for name in BROKEN if not reported(name).ok]
    warned = [n for n in BROKEN if n not in failing and codes(reported(n), "warn")]
    silent = [n for n in BROKEN if n not in (*failing, *warned)]
    fine = [*HEALTHY, *OTHERS]
    warns = {kind: [n for n in GALLERY if n in kind_of and codes(reported(n), "warn")]
             for kind, kind_of in (("thirty", HEALTHY), ("others", OTHERS))}  # fmt: skip
    stated = re.sub(r"\s+", " ", page)
    assert f"a line fails for {len(failing)}, others warn for {len(warned)}" in stated
    assert f"and nothing is said of {len(silent)}" in stated
    assert all(reported(name).ok for name in fine)
    assert f"no line fails, and lines warn for {len(warns['thirty'])}" in stated
    assert f"for {len(warns['others'])} of the {len(OTHERS)} others" in stated
    assert gallery_table() in page


# Nothing of the caller's changes -----------------------------------------------------------------


def state_of(*values: Any) -> list[Any]:
    """All that a check could change, as plain data."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, nn.Module):
            for module in value.modules():
                hooks = [len(module._forward_hooks), len(module._backward_hooks)]
                found += [module.training, sorted(vars(module)), hooks]
            for tensor in [*value.parameters(), *value.buffers()]:
                grad = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist())
                found += [id(tensor), tensor.tolist(), tensor.requires_grad, grad]
        elif isinstance(value, torch.optim.Optimizer):
            found.append(repr(value.state_dict()))
            found += [id(p) for group in value.param_groups for p in group["params"]]
        else:
            found.append(repr(value))
    drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    return [*found, *drawn, torch.is_grad_enabled(), torch.is_inference_mode_enabled()]


@pytest.mark.slow
@pytest.mark.parametrize("name", GALLERY)
def test_nothing_of_the_callers_changes(name: str) -> None:
    training = built(name)
    for parameter in training.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    given = [training.model, training.optimizer, training.batches[0]]
    if isinstance(training.loss, nn.Module):
        given.append(training.loss)
    before = state_of(*given)
    safeloss.check(
        training.model,
        training.batches[0],
        training.loss,
        step=training.step,
        optimizer=training.optimizer,
        **training.options,
    )
    assert state_of(*given) == before
