"""Safety is not lost by accident: flags of the interpreter, processes, threads, long runs."""

import ast
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import safeloss
from safeloss import LayoutError, SafeBCEWithLogitsLoss, SafeCrossEntropyLoss
from safeloss import functional as SF
from safeloss._lazy import read
from safeloss._messages import catalogue
from safeloss._runtime.memory import MOST_PLANS


def python(*arguments: str, **environment: str) -> list[str]:
    """The lines that a fresh interpreter prints; what it warns of is an error there too."""
    run = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


# Flags and switches ------------------------------------------------------------------------------

REFUSALS = """
import torch
import safeloss
from safeloss import functional as SF

zeros, ones = torch.zeros, torch.ones
BCE, CE = safeloss.SafeBCEWithLogitsLoss, safeloss.SafeCrossEntropyLoss
calls = {
    "accepted": lambda: BCE()(zeros(4, 1), ones(4)),
    "crossed": lambda: BCE()(zeros(4, 1), ones(1, 4)),
    "one against many": lambda: SF.binary_cross_entropy_with_logits(zeros(4, 3), ones(4, 1)),
    "several scores": lambda: safeloss.MultiLabelBCE()(zeros(4, 3), ones(4)),
    "classes last": lambda: CE()(zeros(4, 5, 3), zeros(4, 5).long()),
    "a tie": lambda: CE()(zeros(4, 5, 5), zeros(4, 5).long()),
    "floating indices": lambda: SF.cross_entropy(zeros(4, 3), zeros(4)),
    "integer scores": lambda: CE()(zeros(4, 3).long(), zeros(4).long()),
    "a list": lambda: BCE()(zeros(2), [0.0, 1.0]),
    "a label of 2": lambda: BCE()(zeros(4), ones(4) * 2),
    "no class": lambda: SF.cross_entropy(zeros(4, 3), ones(4).long() * 3, check_values="always"),
    "an empty batch": lambda: BCE(empty="raise")(zeros(0), ones(0)),
    "a bad option": lambda: BCE(reduction="avg"),
    "align": lambda: safeloss.align(ones(4, 3), like=zeros(3, 4)),
}
for name, call in calls.items():
    for _ in range(2):
        try:
            call()
        except Exception as error:
            print(name, type(error).__name__)
        else:
            print(name, "-")
"""
VERDICTS = {
    "accepted": "-",
    "crossed": "LayoutError",
    "one against many": "LayoutError",
    "several scores": "LayoutError",
    "classes last": "LayoutError",
    "a tie": "AmbiguousLayoutError",
    "floating indices": "DTypeError",
    "integer scores": "DTypeError",
    "a list": "ArgumentTypeError",
    "a label of 2": "ValueRangeError",
    "no class": "ValueRangeError",
    "an empty batch": "LayoutError",
    "a bad option": "OptionError",
    "align": "LayoutError",
}
nightly = pytest.mark.nightly  # for each flag Python compiles all of torch anew
FLAGS = [
    ([], {}),
    (["-O"], {}),  # no assertions
    pytest.param(["-OO"], {}, marks=nightly),  # nor docstrings
    ([], {"JAXTYPING_DISABLE": "1"}),
    pytest.param(["-O"], {"JAXTYPING_DISABLE": "1", "PYTHONHASHSEED": "0"}, marks=nightly),
]


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "environment"), FLAGS)
def test_refusals_survive(flags, environment) -> None:
    said = python(*flags, "-W", "error", "-c", REFUSALS, **environment)
    assert said == [f"{name} {error}" for name, error in VERDICTS.items() for _ in range(2)]


COMPILED = """
import torch
import safeloss

compiled = torch.compile(safeloss.SafeBCEWithLogitsLoss(), backend="eager")
for batch in (4, 7, 9):
    assert compiled(torch.zeros(batch, 1), torch.ones(batch)).shape == ()
    try:
        compiled(torch.zeros(batch, 1), torch.ones(1, batch))
    except safeloss.LayoutError:
        print("refused")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "environment"), [FLAGS[0], FLAGS[-1]])
def test_compiled_refusals_survive(flags, environment) -> None:
    assert python(*flags, "-c", COMPILED, **environment) == ["refused"] * 3


# What an import costs ----------------------------------------------------------------------------

IMPORTED = """
import sys
import torch
before = set(sys.modules)
import safeloss
from safeloss import *
print(*sorted(set(sys.modules) - before), sep="\\n")
"""
USED = """
loss = safeloss.SafeBCEWithLogitsLoss()
loss(torch.zeros(4, 1), torch.ones(4))
try:
    safeloss.functional.cross_entropy(torch.zeros(4, 3), torch.ones(4))
except safeloss.DTypeError as error:
    str(error)
print(*sorted(set(sys.modules) - before), sep="\\n")
"""
HEAVY = ("matplotlib", "rich", "sklearn", "torch._dynamo", "torch._inductor", "pandas", "scipy")


@pytest.mark.slow
@pytest.mark.parametrize("program", [IMPORTED, IMPORTED + USED], ids=["imported", "used"])
def test_nothing_heavy_is_imported(program) -> None:
    modules = python("-c", program)
    assert "safeloss.errors" in modules
    heavy = [m for m in modules for name in HEAVY if m == name or m.startswith(name + ".")]
    assert not heavy


ROOT = Path(safeloss.__file__).parents[1]

LATER = """
import sys
import safeloss
families = ("safeloss.losses.", "safeloss.functional.")
assert not [name for name in sys.modules if name.startswith(families)]
from safeloss import SafeMSELoss
print(*sorted([name for name in sys.modules if name.startswith(families)]))
"""


def test_a_program_pays_for_the_losses_it_uses() -> None:
    (families,) = python("-c", LATER)
    assert families == "safeloss.functional.regression safeloss.losses.regression"


@pytest.mark.parametrize("package", [safeloss, safeloss.functional, safeloss.losses], ids=str)
def test_the_stub_says_what_there_is(package) -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    tree = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    places = {alias.name: node.module for node in imports for alias in node.names}
    listed = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert [places, *listed] == list(read(package.__name__))
    assert set(listed[0]) <= set(places)
    with pytest.raises(AttributeError, match="has no attribute 'SafeNothing'"):
        package.SafeNothing  # noqa: B018  # it is imported
    assert not hasattr(package, "__path_of_nothing__")


def test_a_zip_will_do(tmp_path) -> None:
    """The stubs need not be files."""
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", ROOT, "safeloss")
    found = f"import sys; sys.path.insert(0, {archive!r}); import safeloss"
    (line,) = python("-c", f"{found}; print(safeloss.__file__, safeloss.SafeMSELoss())")
    assert line.startswith(archive)
    assert line.endswith("SafeMSELoss()")
    explain = "from safeloss._messages import catalogue"
    (line,) = python("-c", f"{found}; {explain}; print(len(catalogue.codes()), catalogue.__file__)")
    count, place = line.split()
    assert int(count) == len(catalogue.codes())
    assert place.startswith(archive)


def test_names_are_those_of_their_modules() -> None:
    assert safeloss.SafeMSELoss is safeloss.losses.SafeMSELoss is type(safeloss.SafeMSELoss())
    assert safeloss.losses.SAFE[nn.MSELoss] is safeloss.SafeMSELoss
    assert safeloss.errors.LayoutError is LayoutError
    assert safeloss.layouts.Scores


# Threads -----------------------------------------------------------------------------------------

THREADS, ROUNDS = 8, 25


def _binary(n: int) -> tuple[Tensor, Tensor, Tensor]:
    x, y = torch.randn(n, 1), torch.rand(n)
    return x, y, F.binary_cross_entropy_with_logits(x, y.view(n, 1))


def _classes(n: int) -> tuple[Tensor, Tensor, Tensor]:
    x, y = torch.randn(n, 4), torch.randint(4, (n, 1))
    return x, y, F.cross_entropy(x, y.view(n))


@pytest.mark.parametrize(
    ("loss", "draw", "wrong"),
    [
        (SafeBCEWithLogitsLoss(), _binary, lambda n: (torch.zeros(n, 1), torch.zeros(1, n))),
        (SafeCrossEntropyLoss(), _classes, lambda n: (torch.zeros(n, 4), torch.zeros(n + 1).int())),
        (SF.cross_entropy, _classes, lambda n: (torch.zeros(n, 4), torch.zeros(n + 1).int())),
    ],
)
@pytest.mark.parametrize("values", ["never", "always"])
def test_threads_share_one_loss(loss, draw, wrong, values) -> None:
    """Every other thread makes a mistake with every call, and hears of its own alone."""
    start = Barrier(THREADS)
    options: dict[str, Any] = {}
    if isinstance(loss, nn.Module):
        loss.check_values = values
    else:
        options["check_values"] = values

    def work(thread: int) -> int:
        done = 0
        start.wait()
        for round_ in range(ROUNDS):
            n = 2 + (thread * 7 + round_) % 23  # at any time the threads have different shapes
            if thread % 2:
                with pytest.raises(LayoutError) as refusal:
                    loss(*wrong(n), **options)
                came = {row.name: row.came for row in refusal.value.arguments}
                assert came["input"].startswith(f"float32 [{n}, ")
            else:
                x, y, expected = draw(n)
                assert torch.equal(loss(x, y, **options), expected)
            done += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [ROUNDS] * THREADS


def test_threads_outgrow_the_store_together() -> None:
    """The store is emptied while others read it: nobody may notice."""
    loss, start = SafeBCEWithLogitsLoss(check_values="never"), Barrier(4)

    def work(thread: int) -> bool:
        start.wait()
        right = True
        for n in range(1, MOST_PLANS, 2):
            x, y = torch.full((n, 1 + thread), 0.5), torch.ones(n, 1 + thread, 1)
            right &= loss(x, y).shape == ()
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert len(loss._memory.plans) <= MOST_PLANS + 4


# Long runs ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_store_is_bounded() -> None:
    module, most = SafeBCEWithLogitsLoss(check_values="never"), 0
    for n in range(1, 10_001):
        module(torch.zeros(n, 1), torch.zeros(n))
        most = max(most, len(module._memory.plans))
    assert 0 < len(module._memory.plans) <= most <= MOST_PLANS
    first = torch.randn(1, 1), torch.rand(1)  # which was forgotten, and is learnt again
    expected = F.binary_cross_entropy_with_logits(first[0], first[1].view(1, 1))
    assert torch.equal(module(*first), expected)


@pytest.mark.slow
def test_the_store_of_a_function_is_bounded() -> None:
    kernel = SF.binary_cross_entropy_with_logits
    for n in range(1, MOST_PLANS + 100):
        kernel(torch.zeros(n, 1), torch.zeros(n))
    assert 0 < len(kernel.signature.memory.plans) <= MOST_PLANS


def test_refused_calls_are_not_stored() -> None:
    module = SafeBCEWithLogitsLoss()
    for n in range(2, 50):
        with pytest.raises(LayoutError):
            module(torch.zeros(n, 1), torch.zeros(1, n))
    assert not module._memory.plans
