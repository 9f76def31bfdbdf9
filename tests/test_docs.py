"""Every number and every statement about PyTorch in the docs is measured again."""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import examples
import neighbour_suites
import pages
import pytest
import suites
import torch
import why

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page says what this release does"
)
def test_what_native_does_is_as_the_page_says() -> None:
    _, table, _ = pages.between((DOCS / "why.md").read_text(), "native")
    assert table == why.native()


@pytest.mark.parametrize("page", examples.pages())
def test_the_code_for_a_trainer_is_what_is_tested(page: str) -> None:
    text = (DOCS / page).read_text()
    assert pages.PAGES[page], "a page shows tested code"
    for part, generate in pages.PAGES[page].items():
        assert pages.between(text, part)[1] == generate()
    assert f"({page})" in (DOCS / "trainers.md").read_text()
    assert len(text.splitlines()) <= 80, "a screen and a half"


def test_every_trainer_has_a_page() -> None:
    tested = {file.stem.removeprefix("test_") for file in examples.TESTS.glob("test_*.py")}
    assert {Path(page).stem for page in examples.pages()} == tested


def test_what_safe_losses_did_in_the_tests_of_others_is_as_recorded() -> None:
    _, written, _ = pages.between((DOCS / "trainers.md").read_text(), "neighbours")
    assert written == neighbour_suites.table()
    for suite in neighbour_suites.record().values():
        for row in suite["found"]:
            assert (row["kind"] == "warned") is (row.get("right") is None), row["place"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("hazards.md", "hazards"),
        ("losses.md", "losses"),
        ("weights.md", "unreduced"),
        ("weights.md", "unweighted"),
    ],
)
def test_what_is_generated_is_fresh(page: str, name: str) -> None:
    """`make docs` writes it anew."""
    release = f"on PyTorch {torch.__version__.partition('+')[0]}:"
    if release not in (DOCS / "hazards.md").read_text():
        pytest.skip("the pages are those of another release")
    _, written, _ = pages.between((DOCS / page).read_text(), name)
    assert written == pages.PAGES[page][name]()


def test_what_was_found_in_the_tests_of_others_is_as_recorded() -> None:
    _, written, _ = pages.between((DOCS / "diagnose.md").read_text(), "suites")
    assert written == suites.table()
    for suite in suites.record().values():
        for row in suite["places"]:
            judged = row.get("right") is not None
            assert judged is bool(row["equal"] and row["accused"]), row["place"]


@pytest.mark.slow
def test_the_bug_is_as_bad_as_the_page_says() -> None:
    _, table, _ = pages.between((DOCS / "why.md").read_text(), "training")
    rows = {
        int(row.split("|")[1]): re.findall(r"(\d\.\d{3}) \(", row) for row in table.split("\n")[2:]
    }
    assert tuple(rows) == why.BATCHES
    for batch in (8, 128):
        for written, loss in zip(rows[batch], why.LOSSES.values()):
            accuracy, _ = why.train(loss, batch)
            assert accuracy == pytest.approx(float(written), abs=0.02)


def test_what_is_said_of_speed_was_measured() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.cuda import page as cuda
    from benchmarks.record import load
    from benchmarks.report import page

    record, gpus = load(DOCS / "benchmarks.json"), cuda.records(DOCS)
    assert (DOCS / "benchmarks.md").read_text() == page(record, gpus)
    assert (DOCS / cuda.PAGE).read_text() == cuda.page(gpus)
    aligned = [r for r in record.rows if (r.section, r.arm, r.threads) == ("eager", "aligned", 1)]
    eager = [row for row in aligned if row.backward]
    ones = {row.loss: row.ratio.median for row in eager if row.elements == 1}
    fused = "MultiLabelBCE/SoftMargin"
    assert min(ones.values()) == ones[fused]
    median, least, most = statistics.median(ones.values()), ones[fused], max(ones.values())
    assert all(row.ratio.median < 0.5 for row in eager if row.loss == fused)

    def added(section: str, arm: str) -> list[float]:
        return [
            row.overhead_us.median
            for row in record.rows
            if (row.section, row.arm, row.backward) == (section, arm, False)
            and row.elements <= 4096  # above which it is lost in the noise
            and row.loss != fused
        ]

    own = {row.loss for row in record.rows if row.section in ("own", "own, compiled")}
    assert own == {"checked/body", "SigmoidFocalLoss/torchvision", "DiceLoss/MONAI"}
    first = [us / 1000 for us in added("cold", "first")]
    imported = record.imports["from safeloss import SafeBCEWithLogitsLoss"].median
    costs = [
        rf"{median:.2f} [^|]*{least:.2f} \D* {most:.2f}",
        f"{min(first):.2f} \\D* {max(first):.2f} ms",
        f"{statistics.median(added('cold', 'another length')):.0f} us",
        f"{imported:.0f} ms",
    ]
    for gpu in gpus:
        own = [seen["same"] for seen in gpu.kernels if "/" not in seen["loss"]]
        assert own
        assert all(all(same.values()) for same in own)
        waits = [seen["counts"] for seen in gpu.synchronisations]
        assert all(counts["never"] == counts["native"] for counts in waits)
        assert all(counts["first"][1] == counts["native"][1] for counts in waits)
    (h100,) = [gpu for gpu in gpus if "H100" in gpu.card["name"]]
    at = {
        (row.section, row.arm): row
        for row in h100.rows
        if (row.loss, row.elements, row.backward) == ("CrossEntropy", 2**24, False)
    }
    mean, weighted = at["eager", "aligned"].native_us, at["sample_weight", "safe"].us
    masked = at["mask", "safe"]  # beside the unreduced loss by hand
    assert masked.native_us.median < masked.us.median < 1.05 * mean.median
    assert f"{mean.median / 1e3:.1f} ms for two million rows" in (DOCS / "weights.md").read_text()
    assert f"{weighted.median / 1e3:.1f} ms for the unreduced" in (DOCS / "weights.md").read_text()
    for readme in DOCS.parent.glob("README*.md"):
        assert "H100" in readme.read_text()
        table = re.findall(r"^\| .+ \| (.+) \|$", readme.read_text(), re.MULTILINE)
        assert len(table) == len(costs) + 1, "the table of costs, and its head"
        for cost, written in zip(costs, table[1:]):
            assert re.search(cost, written), (readme.name, cost, written)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo looks at what frames hold
def test_jaxtyped_under_the_compiler_is_as_the_page_says() -> None:
    from beartype import beartype
    from jaxtyping import Float, TypeCheckError, jaxtyped

    @jaxtyped(typechecker=beartype)
    def loss(x: Float[torch.Tensor, " n"], y: Float[torch.Tensor, " n"]) -> torch.Tensor:
        return (x - y).square().mean()

    loss(torch.ones(3), torch.ones(3))
    torch._dynamo.reset()
    with pytest.raises((TypeCheckError, torch._dynamo.exc.Unsupported)):
        torch.compile(loss, backend="eager")(torch.ones(3), torch.ones(3))


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page says what this release does"
)
def test_the_defect_of_compiled_label_margins_is_as_the_page_says() -> None:
    torch._dynamo.reset()
    x, target = torch.randn(4, 3, requires_grad=True), torch.tensor([[0, -1, 1]] * 4)
    loss = torch.nn.MultiLabelMarginLoss()
    compiled = torch.compile(loss, backend="aot_eager")
    assert not torch.allclose(compiled(x, target), loss(x, target))


def test_what_is_different_from_torch() -> None:
    """The statements on PyTorch in `limits.md` and in the docstrings."""
    F = torch.nn.functional
    assert F.cross_entropy(torch.randn(4, 1), torch.zeros(4).long()) == 0
    assert F.cross_entropy(torch.randn(4), torch.rand(4)).isfinite()
    assert F.cross_entropy(torch.zeros(0, 3), torch.zeros(0).long()).isnan()
    wide = F.binary_cross_entropy_with_logits(torch.randn(4), torch.rand(4).double())
    assert wide.dtype == torch.float64
    for native, target in (
        (F.multi_margin_loss, torch.zeros(0).long()),
        (F.multilabel_margin_loss, torch.zeros(0, 3).long()),
    ):
        assert not native(torch.zeros(0, 3), target).isnan(), "whatever memory holds"


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the docstring says what this release does"
)
def test_ctc_labels_that_are_not_contiguous_are_a_trap() -> None:
    """In a process of its own, since PyTorch may crash it."""
    script = """
import torch
torch.manual_seed(0)
log_probs = torch.randn(8, 2, 4).log_softmax(-1)
joined = torch.tensor([[1, 3], [2, 3], [3, 2], [1, 2]])[:, 0]
lengths = torch.tensor([8, 8]), torch.tensor([2, 2])
loss = torch.nn.functional.ctc_loss
print(torch.equal(loss(log_probs, joined, *lengths), loss(log_probs, joined.clone(), *lengths)))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode != 0 or run.stdout == "False\n"
