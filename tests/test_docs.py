"""Every number and every statement about PyTorch in the docs is measured again."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

DOCS = Path(__file__).parent.parent / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="the page says what this release does"
)
def test_what_native_does_is_as_the_page_says() -> None:
    why = script("why")
    _, table, _ = why.between(why.PAGE.read_text(), "native")
    assert table == why.native()


@pytest.mark.slow
def test_the_bug_is_as_bad_as_the_page_says() -> None:
    why = script("why")
    _, table, _ = why.between(why.PAGE.read_text(), "training")
    rows = {
        int(row.split("|")[1]): re.findall(r"(\d\.\d{3}) \(", row) for row in table.split("\n")[2:]
    }
    assert tuple(rows) == why.BATCHES
    for batch in (8, 128):
        for written, loss in zip(rows[batch], why.LOSSES.values()):
            accuracy, _ = why.train(loss, batch)
            assert accuracy == pytest.approx(float(written), abs=0.02)


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
