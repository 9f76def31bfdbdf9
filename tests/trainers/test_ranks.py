"""Data-parallel training on two processes, and a refusal that only one of them meets."""

# part: step
import contextlib

import torch
import torch.distributed as dist


def step(model, loss, optimizer, batches):
    """`model` is a DistributedDataParallel; `batches` are those of this rank, for one step."""
    tokens = sum((tags != -100).sum() for _, tags in batches).float()
    dist.all_reduce(tokens)  # the tokens of all ranks
    denominator = tokens / dist.get_world_size()  # since gradients are averaged over ranks
    for number, (words, tags) in enumerate(batches, 1):
        last = number == len(batches)
        with contextlib.nullcontext() if last else model.no_sync():
            loss(model(words), tags, denominator=denominator).backward()
    optimizer.step()
    optimizer.zero_grad()


# end

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import loader, model, regression, weights
from test_plain import Tagger, sentences, sgd, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from safeloss import SafeCrossEntropyLoss, SafeMSELoss, ValueRangeError
from safeloss.functional import cross_entropy


def work(folder: Path) -> None:
    """What each rank does."""
    dist.init_process_group("gloo")
    batches = sentences()[dist.get_rank() :: 2]
    net = DistributedDataParallel(Tagger())
    step(net, SafeCrossEntropyLoss(class_dim=-1), sgd(net), batches)
    if dist.get_rank() == 0:
        torch.save(net.module.state_dict(), folder / "model.pt")
    x, y = (data[dist.get_rank() :: 2] for data in regression())
    for name, loss, targets in (
        ("right", nn.MSELoss(), y.view(-1, 1)),
        ("native", nn.MSELoss(), y),
        ("safe", SafeMSELoss(), y),
    ):
        net = DistributedDataParallel(model())
        values = train(net, loss, loader(x, targets), sgd(net))
        if dist.get_rank() == 0:
            torch.save([*values, *weights(net)], folder / f"{name}.pt")
    dist.destroy_process_group()


def refuse() -> None:
    """The labels of one rank are wrong; the other one waits for its gradients."""
    dist.init_process_group("gloo")
    net = DistributedDataParallel(nn.Linear(4, 3))
    labels = torch.full((8,), 2 + dist.get_rank())
    SafeCrossEntropyLoss()(net(torch.randn(8, 4)), labels).backward()


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    port = ["--master-addr", "127.0.0.1", "--master-port", "0", "--standalone"]
    here = {"PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*command, *port, __file__, *arguments],
        env={**os.environ, **here, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_two_processes_are_one_large_batch(tmp_path) -> None:
    run = torchrun("work", str(tmp_path))
    assert run.returncode == 0, run.stderr
    alone = Tagger()
    scores = torch.cat([alone(words).flatten(0, 1) for words, _ in sentences()])
    tags = torch.cat([tags.flatten() for _, tags in sentences()])
    cross_entropy(scores, tags).backward()
    sgd(alone).step()
    torch.testing.assert_close(torch.load(tmp_path / "model.pt"), alone.state_dict())
    curves = {name: torch.load(tmp_path / f"{name}.pt") for name in ("right", "native", "safe")}
    assert curves["native"] != curves["right"], "targets without the axis of the scores"
    assert curves["safe"] == curves["right"]


@pytest.mark.slow
def test_a_refusal_on_one_rank_ends_them_all() -> None:
    began = time.monotonic()
    run = torchrun("refuse")
    assert time.monotonic() - began < 120, "the other rank was not ended"
    assert run.returncode != 0
    assert ValueRangeError.__name__ in run.stderr
    assert "Rank: 1" in run.stderr
    assert "Rank: 0" not in run.stderr


if __name__ == "__main__":
    work(Path(sys.argv[2])) if sys.argv[1] == "work" else refuse()
