"""What is to be measured on a GPU is rehearsed on the CPU, and a rehearsal is no measurement."""

import inspect
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.cases import CASES
from benchmarks.cuda import page, plan, stand_in
from benchmarks.cuda.device import REHEARSAL, chosen
from benchmarks.cuda.measures import LOOKS, TIMED
from benchmarks.cuda.record import CudaRecord, load
from benchmarks.cuda.run import run
from benchmarks.timing import NATIVE

ROOT = Path(__file__).parent.parent
# As on a machine that has neither, where nothing can be installed.
BARE = """
import runpy, sys
sys.modules.update(rich=None, matplotlib=None)
sys.argv[1:] = ["--only", "cuda", "--rehearse", *sys.argv[1:]]
runpy.run_module("benchmarks", run_name="__main__")
"""


def rehearsal(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BARE, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> CudaRecord:
    """The record of a whole rehearsal, which takes a minute."""
    output = tmp_path_factory.mktemp("cuda") / "record.json"
    process = rehearsal("--output", str(output))
    text, progress = process.communicate()
    assert process.returncode == 0, progress
    assert text.startswith(stand_in.NAME)
    assert "eager: BCEWithLogits" in progress
    return load(output)


@pytest.mark.nightly
def test_every_step_is_rehearsed(rehearsed: CudaRecord) -> None:
    assert not rehearsed.left_out
    # What PyTorch does not compute on a CPU, and nothing else.
    assert [x for x in rehearsed.failed if "not implemented for 'BFloat16'" not in x] == []
    assert {row.section for row in rehearsed.rows} == {*TIMED, "device"}
    names = [case.name for case in CASES]
    assert {row.loss for row in rehearsed.rows if row.section == "eager"} == set(names)
    for looked in LOOKS:
        assert {entry["loss"] for entry in getattr(rehearsed, looked)} == set(names)


@pytest.mark.nightly
def test_the_rehearsal_counts_what_is_read(rehearsed: CudaRecord) -> None:
    for seen in rehearsed.synchronisations:
        first, second = seen["counts"][NATIVE]
        # A layer is called at one line of the benchmark, where an earlier one was read.
        assert seen["loss"] == "AdaptiveLogSoftmax" or seen["counts"]["first"][0] > first
        assert seen["counts"]["first"][1] == second
        assert seen["counts"]["never"] == [first, second]
        assert min(seen["counts"]["always"]) > first


@pytest.mark.nightly
def test_no_page_is_made_of_a_rehearsal(rehearsed: CudaRecord, tmp_path: Path) -> None:
    rehearsed.save(tmp_path / "benchmarks-cuda.json")
    found = page.records(tmp_path)
    assert found == [rehearsed]
    for made in (page.page, page.in_short):
        with pytest.raises(ValueError, match="rehearsal"):
            made(found)


@pytest.mark.nightly
def test_the_page_takes_several_cards_and_hides_nothing(rehearsed: CudaRecord) -> None:
    """As if it had been measured, on one card where all is well and on another where it is not."""
    losses = [seen["loss"] for seen in rehearsed.kernels if "/" not in seen["loss"]]

    def card(name: str, well: bool) -> CudaRecord:
        return replace(
            rehearsed,
            rehearsal=False,
            card={**rehearsed.card, "name": name},
            left_out=[] if well else ["graph: L1, 64 elements"],
            failed=[] if well else ["graph: MSE, 64 elements: OutOfMemoryError: full"],
            kernels=[
                {**seen, "same": {"aligned": well, "normalised": True}}
                for seen in rehearsed.kernels
            ],
            synchronisations=[
                {
                    **seen,
                    "counts": {NATIVE: [1, 1], "first": [2, 1 if well else 2], "never": [1, 1]},
                }
                for seen in rehearsed.synchronisations
            ],
            memory=[
                {**seen, "bytes": {NATIVE: 8, "aligned": 8 if well else 9}}
                for seen in rehearsed.memory
            ],
        )

    text = page.page([card("Good Card", True), card("Bad Card", False)])
    good, bad = text.split("## Good Card")[1].split("## Bad Card")
    count = 2 * len(losses)
    assert f"{count} of {count} calls compared" in good
    assert f"{count // 2} of {count} calls compared" in bad
    assert "Not the same" not in good
    assert f"Not the same: {losses[0]} aligned, " in bad
    assert "after the first call none" in good
    assert "after the first call some in BCEWithLogits, " in bad
    assert "hold no more bytes than PyTorch" in good
    assert "hold more bytes than PyTorch: BCEWithLogits aligned (64 elements, +1)" in bad
    assert "complete" in good
    assert "cut short" in bad
    assert "- graph: L1, 64 elements" in bad
    assert "OutOfMemoryError" in bad
    assert "MultiLabelBCE/BCE (64 elements): other kernels" in bad
    assert f"]({page.plot(card('Good Card', True))})" in good
    assert "Good Card" in page.in_short([card("Good Card", True)])[1]


def test_a_run_is_resumed_where_it_lacks_something() -> None:
    cases = tuple(case for case in CASES if case.name in ("MSE", "L1"))
    short = plan.REHEARSED._replace(others=plan.REHEARSED.others[:1])  # eager, 64 elements
    whole = run(REHEARSAL, short, cases, None, lambda *_: None)
    assert [row.loss for row in whole.rows] == ["L1"] * 4 + ["MSE"] * 4
    elsewhere = ["graph: CTC, 64 elements", "graph: CTC, 64 elements: RuntimeError: full"]
    record = replace(
        whole,
        rows=[row for row in whole.rows if row.loss == "L1"],
        failed=["eager: MSE, 64 elements: RuntimeError: full", elsewhere[1]],
        left_out=elsewhere[:1],
        seconds=1000.0,
    )
    told: list[str] = []
    resumed = run(REHEARSAL, short, cases, None, lambda what, *_: told.append(what), record)
    assert told == ["eager: MSE"]
    assert [row.loss for row in resumed.rows] == ["L1"] * 4 + ["MSE"] * 4
    assert resumed.left_out == elsewhere[:1]
    assert resumed.failed == elsewhere[1:]
    assert resumed.seconds >= 1000
    with pytest.raises(SystemExit, match="The record is of"):
        run(REHEARSAL, short, cases, None, lambda *_: None, replace(record, card={"name": "other"}))


def test_without_a_record_the_page_says_so() -> None:
    text = page.page([])
    assert "CUDA was not measured" in text
    assert page.COMMAND in text
    assert page.COMMAND in (ROOT / "docs" / "maintaining.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there, no process is asked to end")
def test_a_run_that_is_ended_has_written_what_it_found(tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    process = rehearsal("--losses", "BCEWithLogits", "L1", "--output", str(output))
    while not output.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "Ended by SIGTERM" in said
    record = load(output)
    assert {row.loss for row in record.rows} == {"BCEWithLogits"}
    assert record.left_out


def test_a_step_for_which_there_is_no_time_is_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    none = plan.REHEARSED._replace(budget_s=-1)
    record = run(REHEARSAL, none, CASES[:5], None, lambda what, done, of: told.append(what))
    assert record.left_out == [str(step) for step in plan.steps(none, CASES[:5])]
    assert not record.rows
    assert told


def test_the_main_losses_come_first() -> None:
    main = [step.case.name in plan.MAIN for step in plan.steps(plan.FULL, CASES)]
    assert main == sorted(main, reverse=True)
    assert {"BCEWithLogits", "CrossEntropy", "MultiLabelBCE/BCE"} <= plan.MAIN


def test_what_stands_in_has_the_names_and_arguments_of_torch() -> None:
    own = {
        name: value
        for name, value in vars(stand_in).items()
        if getattr(value, "__module__", None) == stand_in.__name__
        and (not name.startswith("_") or name == "_sleep")
    }
    assert {"Event", "graph", "set_sync_debug_mode"} <= set(own)
    for name, value in own.items():
        real = getattr(torch.cuda, name)
        methods = vars(value) if inspect.isclass(value) else {}
        for method in [name for name in methods if not name.startswith("_")]:
            assert hasattr(real, method), f"{name}.{method}"
        assert arguments(value) <= arguments(real), name


def arguments(function: object) -> set[str]:
    if inspect.isclass(function):
        made = [function.__init__, function.__new__]
        return {name for each in made for name in named(each)} - {"self", "cls"}
    assert callable(function)
    return named(function)


def named(function: Callable[..., object]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except ValueError:  # written in C++, with no names to tell, as CUDA graphs are in torch 2.6
        return {"args", "kwargs"}  # which is what `object.__init__` says


def test_without_a_gpu_only_a_rehearsal_is_possible() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert chosen(rehearse=True).rehearsal
    with pytest.raises(SystemExit, match="no CUDA device"):
        chosen(rehearse=False)
