"""Wherever PyTorch's loss works on several processes, ours does: every loss, on two of them."""

import contextlib
import itertools
import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

import pytest
import torch
from losses import LOSSES, Drawn, Loss, build, same, several
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import safeloss

fsdp = pytest.importorskip("torch.distributed.fsdp", reason="torch without torch.distributed")
dtensor = pytest.importorskip("torch.distributed.tensor", reason="torch without torch.distributed")

WORLD, BATCH = 2, 32  # a size that no other axis has


class Setting(NamedTuple):
    """A loss as it is used on several processes: inputs for this one, and what gets gradients."""

    call: Callable[..., Any]
    inputs: list[Tensor]
    leaves: list[Tensor]
    context: Callable[[], Any] = contextlib.nullcontext


Way: TypeAlias = Callable[[nn.Module, list[Tensor]], Setting]  # from the inputs of all processes

# The ways ----------------------------------------------------------------------------------------


class Model(nn.Module):
    """A layer that changes nothing, and the loss."""

    def __init__(self, loss: nn.Module, inputs: list[Tensor]) -> None:
        super().__init__()
        self.gain, self.loss = nn.Parameter(torch.ones(inputs[0].shape[-1])), loss

    def forward(self, first: Tensor, *others: Tensor) -> Any:
        return self.loss(first * self.gain, *others)


def batch_axis(x: Tensor) -> int:
    return x.shape.index(BATCH)


def share(inputs: list[Tensor]) -> list[Tensor]:
    return [x.chunk(WORLD, batch_axis(x))[torch.distributed.get_rank()] for x in inputs]


def mesh() -> Any:
    return torch.distributed.device_mesh.init_device_mesh("cpu", (WORLD,))


def data_parallel(loss: nn.Module, inputs: list[Tensor]) -> Setting:
    model = DistributedDataParallel(Model(loss, inputs))
    return Setting(model, share(inputs), list(model.parameters()))


def fully_sharded(loss: nn.Module, inputs: list[Tensor]) -> Setting:
    model = Model(loss, inputs)
    fsdp.fully_shard(loss, mesh=mesh())
    fsdp.fully_shard(model, mesh=mesh())
    return Setting(model, share(inputs), list(model.parameters()))


def placed(loss: nn.Module, inputs: list[Tensor], placements: list[Any]) -> Setting:
    """Every input one tensor over all processes."""
    inputs = [dtensor.distribute_tensor(x, mesh(), [p]) for x, p in zip(inputs, placements)]
    module = dtensor.distribute_module(loss, mesh())
    return Setting(module, inputs, [inputs[0].requires_grad_(), *module.parameters()])


def batch_sharded(loss: nn.Module, inputs: list[Tensor]) -> Setting:
    return placed(loss, inputs, [dtensor.Shard(batch_axis(x)) for x in inputs])


def replicated(loss: nn.Module, inputs: list[Tensor]) -> Setting:
    return placed(loss, inputs, [dtensor.Replicate() for _ in inputs])


def classes_sharded(loss: nn.Module, inputs: list[Tensor]) -> Setting:
    """Each process has some of the classes of every sample, and all targets."""
    placements = [dtensor.Shard(1), *(dtensor.Replicate() for _ in inputs[1:])]
    return placed(loss, inputs, placements)._replace(context=dtensor.parallel.loss_parallel)


def classes_sharded_plain_targets(loss: nn.Module, inputs: list[Tensor]) -> Setting:
    setting = classes_sharded(loss, inputs)
    return setting._replace(inputs=[setting.inputs[0], *inputs[1:]])


WAYS = (data_parallel, fully_sharded, batch_sharded, replicated, classes_sharded)
SOFTMAX = [loss for loss in LOSSES if loss.native in (nn.CrossEntropyLoss, nn.NLLLoss)]
CASES: list[tuple[Way, Loss]] = [
    *itertools.product(WAYS, LOSSES),
    *((classes_sharded_plain_targets, loss) for loss in SOFTMAX),  # of others torch wants DTensors
]


# One of the processes ----------------------------------------------------------------------------


def full(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, dtensor.DTensor) else x


def results(setting: Setting) -> list[Tensor]:
    """The values and the gradients, each in one piece."""
    with setting.context():
        values = several(setting.call(*setting.inputs))
        sum(value.sum() for value in values).backward()
    grads = [leaf.grad for leaf in setting.leaves]
    for leaf in setting.leaves:
        leaf.grad = None
    return [full(x.detach()) for x in (*values, *grads)]


def drawn(loss: Loss) -> tuple[nn.Module, nn.Module, list[Tensor]]:
    """The same at every call, and on every process."""
    torch.manual_seed(0)
    return *build(loss, Drawn([], loss.options)), loss.batch(BATCH)


def missing(way: Way, loss: Loss) -> str:
    """Why PyTorch gives nothing, if so."""
    _, native, inputs = drawn(loss)
    try:
        results(way(native, inputs))
    except Exception as error:  # whatever it is, PyTorch cannot do it
        return f"PyTorch: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return ""


def fault(way: Way, loss: Loss) -> str:
    """What is wrong with ours."""
    _, native, (first, target, *others) = drawn(loss)
    expected = results(way(native, [first, target, *others]))
    meant = [target, target.squeeze(1)] if target.shape == (BATCH, 1) else [target]
    for labels in meant:
        safe = drawn(loss)[0]
        setting = way(safe, [first, labels, *others])
        for values in ("first", "never", "never"):  # the last one is a call that is known
            safe.check_values = values
            if not same(results(setting), expected):
                return f"other numbers for a target {list(labels.shape)}, check_values={values!r}"
    unfit = torch.zeros(BATCH, 98, 97, dtype=target.dtype)
    setting = way(drawn(loss)[0], [first, unfit, *others])
    try:
        setting.call(*setting.inputs)
    except safeloss.SafeLossError:
        return ""
    return "a target that does not fit is accepted"


def counted_together() -> str:
    """What is wrong with token counts over micro-batches of two processes, of unequal lengths."""
    torch.manual_seed(0)
    x, y = torch.randn(8, 6, 5).double(), torch.randint(5, (8, 6))
    for row, length in enumerate([6, 1, 3, 6, 2, 5, 1, 4]):
        y[row, length:] = -100
    model = nn.Linear(5, 5).double()
    whole = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    expected = torch.autograd.grad(whole, list(model.parameters()))
    wrapped, loss = DistributedDataParallel(model), safeloss.SafeCrossEntropyLoss(class_dim=-1)
    mine = [t.chunk(WORLD)[torch.distributed.get_rank()] for t in (x, y)]
    count = (mine[1] != -100).sum()
    torch.distributed.all_reduce(count)
    for rows in (slice(0, 1), slice(1, 4)):
        part, tags = mine[0][rows], mine[1][rows]
        last = rows.stop == 4
        with contextlib.nullcontext() if last else wrapped.no_sync():
            loss(wrapped(part), tags, denominator=count / WORLD).backward()
    for parameter, gradient in zip(model.parameters(), expected):
        if not torch.allclose(parameter.grad, gradient):
            return "the gradients are not those of one batch"
    return ""


def agreed(ask: Callable[..., str], *case: Any) -> str:
    """What one process says; from then on all of them do the same."""
    try:
        said = ask(*case)
    except Exception:  # told to the tests: here it would leave the other process waiting
        said = traceback.format_exc()
    answers = [""] * WORLD
    torch.distributed.all_gather_object(answers, said)
    return next(filter(None, answers), "")


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store, patience = f"file://{folder}/store", timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", store, patience, WORLD, rank)
    found = {}
    for way, loss in CASES:
        lacking = agreed(missing, way, loss)
        found[way.__name__, str(loss)] = lacking, "" if lacking else agreed(fault, way, loss)
    found["counted together", ""] = "", agreed(counted_together)
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked, since importing torch takes each process seconds.
    torch.multiprocessing.start_processes(work, sys.argv[1:], WORLD, start_method="fork")


# What they found ---------------------------------------------------------------------------------

Found: TypeAlias = dict[tuple[str, str], tuple[str, str]]

# How many losses PyTorch cannot do, in torch 2.13: operators without a sharding strategy.
LACKING = {"batch_sharded": 5, "replicated": 5, "classes_sharded": 6}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What two processes find out, started once for all tests."""
    folder = tmp_path_factory.mktemp("processes")
    here = {"PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.run(
        [sys.executable, __file__, str(folder)],
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "found.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("way", "loss"), CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_the_same_on_two_processes(found: Found, way: Way, loss: Loss) -> None:
    lacking, wrong = found[way.__name__, str(loss)]
    if lacking:
        pytest.skip(lacking)
    assert not wrong, wrong


@pytest.mark.slow
def test_counts_of_all_processes_make_one_batch(found: Found) -> None:
    _, wrong = found["counted together", ""]
    assert not wrong, wrong


@pytest.mark.slow
def test_native_can_do_most(found: Found) -> None:
    lacking = Counter(way for (way, _), (reason, _) in found.items() if reason)
    assert not lacking["data_parallel"]
    if torch.__version__.startswith("2.13."):
        assert lacking == LACKING
