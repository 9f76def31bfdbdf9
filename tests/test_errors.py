"""The errors as data, and their text: golden messages, rewritten by `pytest --golden`."""

import copy
import pickle
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from lines import new_line

import safeloss
from safeloss import MultiLabelBCE, SafeBCEWithLogitsLoss, SafeCrossEntropyLoss
from safeloss import functional as SF
from safeloss._runtime import validate as _verifying

GOLDEN = Path(__file__).parent / "golden"
B, C, T = 32, 3, 5


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def long(*shape: int) -> torch.Tensor:
    return zeros(*shape, dtype=torch.long)


MESSAGES = {
    "class-indices-in-bce": (SafeBCEWithLogitsLoss(), zeros(B, C), long(B)),
    "crossed": (SafeBCEWithLogitsLoss(), zeros(B, 1), zeros(1, B)),
    "one-against-many": (SafeBCEWithLogitsLoss(), zeros(B, C), zeros(B, 1)),
    "several-scores-one-label": (SafeBCEWithLogitsLoss(), zeros(B, C), zeros(B)),
    "no-fix": (SafeBCEWithLogitsLoss(), zeros(B, C), zeros(C, B)),
    "label-signs": (SafeBCEWithLogitsLoss(), zeros(2), torch.tensor([-1, 1])),
    "list": (SafeBCEWithLogitsLoss(), zeros(2), [0.0, 1.0]),
    "weight-per-sample": (SafeBCEWithLogitsLoss(zeros(B)), zeros(B, C), zeros(B, C)),
    "weight-per-channel": (SafeBCEWithLogitsLoss(zeros(C)), zeros(2, C, 8, 8), zeros(2, C, 8, 8)),
    "empty": (SafeBCEWithLogitsLoss(empty="raise"), zeros(0, 1), zeros(0)),
    "device": (SafeBCEWithLogitsLoss(), zeros(B), zeros(B).to("meta")),
    "one-class": (SafeCrossEntropyLoss(), zeros(B, 1), long(B) + 1),
    "softmax-over-the-batch": (SafeCrossEntropyLoss(), zeros(B), zeros(B)),
    "classes-last": (SafeCrossEntropyLoss(), zeros(B, T, C), long(B, T)),
    "tie": (SafeCrossEntropyLoss(), zeros(B, T, T), long(B, T)),
    "floating-indices": (SafeCrossEntropyLoss(), zeros(B, C), zeros(B)),
    "one-hot": (SafeCrossEntropyLoss(), zeros(B, C), torch.eye(C).long().repeat(B // C + 1, 1)[:B]),
    "lost-batch": (SafeCrossEntropyLoss(), zeros(C, T), long(1, T)),
    "past-the-classes": (SafeCrossEntropyLoss(), zeros(2, C), torch.tensor([1, C])),
    "all-ignored": (SafeCrossEntropyLoss(empty="raise"), zeros(2, C), long(2) - 100),
    "multi-hot": (SafeCrossEntropyLoss(), zeros(2, C), torch.tensor([[0.0, 1, 1], [1, 0, 0]])),
    "batch-or-classes": (MultiLabelBCE(), zeros(B), zeros(B)),
    "class-indices-in-multilabel": (MultiLabelBCE(), zeros(B, C), long(B)),
    "function": (SF.cross_entropy, zeros(B, T, C), long(B, T)),
}


def score(x: Float[torch.Tensor, "batch features"]) -> Float[torch.Tensor, " batch"]:
    return x.sum(1, keepdim=True)


OTHERS = {  # other mistakes than tensors that do not fit: what is called, and its inputs
    "option": (partial(SafeBCEWithLogitsLoss, reduction="avg"),),
    "swapped": (
        SafeBCEWithLogitsLoss(),
        torch.tensor([0.0, 1, 1]),
        torch.tensor([-1.5, 0.5, 2.0]).requires_grad_(),
    ),
    "nan-target": (safeloss.SafeMSELoss(), zeros(2), torch.tensor([0.0, float("nan")])),
    "none": (SafeBCEWithLogitsLoss(), zeros(2), None),
    "outputs-in-a-dict": (SafeBCEWithLogitsLoss(), {"out": zeros(2), "aux": zeros(2)}, zeros(2)),
    "data-in-the-constructor": (SafeBCEWithLogitsLoss, zeros(2), zeros(2)),
    "class-weights": (SafeCrossEntropyLoss(zeros(2)), zeros(B, C), long(B)),
    "mask": (SafeBCEWithLogitsLoss(), zeros(B, C), zeros(B, C), {"mask": zeros(C, B).bool()}),
    "lengths": (safeloss.SafeCTCLoss(), zeros(5, 2, 4), long(2, 3) + 1, 5, long(2) + 3),
    "typed": (safeloss.typed(score), zeros(B, C)),
}


def said(name: str) -> safeloss.SafeLossError:
    loss, *inputs = OTHERS[name]
    given = inputs.pop() if name == "mask" else {}
    with pytest.raises(safeloss.SafeLossError) as caught:
        loss(*inputs, **given)
    return caught.value


WARNINGS = {
    "not-finite": (SafeBCEWithLogitsLoss(), torch.tensor([0.0, float("nan")]), zeros(2)),
    "softmax-twice": (SafeCrossEntropyLoss(), torch.eye(C), torch.arange(C)),
    "sigmoid-twice": (SafeBCEWithLogitsLoss(), torch.linspace(0.001, 1, 100), torch.ones(100)),
    "softmax-in-the-graph": (
        SafeCrossEntropyLoss(),
        torch.randn(2, C, requires_grad=True).softmax(1),
        long(2),
    ),
    "log-softmax-over-the-batch": (
        safeloss.SafeNLLLoss(),
        torch.randn(4, C).log_softmax(0),
        long(4),
    ),
    "multi-hot-in-multi-label-margin": (
        safeloss.SafeMultiLabelMarginLoss(),
        zeros(8, C),
        torch.eye(C).long().repeat(3, 1)[:8],
    ),
    "too-few-time-steps": (
        safeloss.SafeCTCLoss(),
        torch.randn(3, 1, 4).log_softmax(-1),
        torch.tensor([[1, 1, 2]]),
        torch.tensor([3]),
        torch.tensor([3]),
    ),
    "mean-over-nothing": (SafeBCEWithLogitsLoss(), zeros(0, 1), zeros(0)),
}


def refusal(name: str) -> safeloss.SafeLossError:
    loss, *inputs = MESSAGES[name]
    with pytest.raises(safeloss.SafeLossError) as caught:
        loss(*inputs)
    return caught.value


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_message(name: str, request: pytest.FixtureRequest) -> None:
    error = refusal(name)
    text = f"{type(error).__name__}: {error}\n"
    compare(name, text, request)


@pytest.mark.parametrize("name", OTHERS)
def test_golden_message_of_other_mistakes(name: str, request: pytest.FixtureRequest) -> None:
    error = said(name)
    compare(name, f"{type(error).__name__}: {error}\n", request)


@pytest.mark.parametrize("name", WARNINGS)
def test_golden_warning(name: str, request: pytest.FixtureRequest) -> None:
    loss, *inputs = WARNINGS[name]
    with pytest.warns(safeloss.SuspiciousInputWarning) as caught:
        new_line()(loss, *inputs)
    lines = [f"{type(w.message).__name__}: {w.message}\n" for w in caught]
    compare(f"warning-{name}", "".join(lines), request)


def compare(name: str, text: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", MESSAGES)
def test_data_first(name: str) -> None:
    error = refusal(name)
    loss = MESSAGES[name][0]
    assert error.loss in (type(loss).__name__, "cross_entropy")
    assert str(error).startswith(f"[{error.code}] {error.loss}: {error.rule}")
    assert [row.name for row in error.arguments][:2] == ["input", "target"]
    for copied in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(copied) is type(error)
        assert str(copied) == str(error)
        assert copied.fixes == error.fixes


def test_the_tree() -> None:
    root = safeloss.SafeLossError
    assert issubclass(root, ValueError)
    assert issubclass(safeloss.AmbiguousLayoutError, safeloss.LayoutError)
    assert issubclass(safeloss.ArgumentTypeError, TypeError)
    leaves = ("LayoutError", "DTypeError", "DeviceError", "ValueRangeError", "ArgumentTypeError")
    for name in leaves:
        assert issubclass(getattr(safeloss, name), root)
        assert getattr(safeloss, name).__module__ == "safeloss"


def is_ours(filename: str) -> bool:
    """Whether the package holds a file, or has generated it; a checkout may have any name."""
    package = Path(safeloss.__file__).parent
    return package in Path(filename).parents or filename.startswith("<safeloss ")


def test_the_traceback_ends_where_the_loss_was_called() -> None:
    error = refusal("tie")
    assert error.__cause__ is None
    assert error.__suppress_context__
    ours = [f for f in traceback.extract_tb(error.__traceback__) if is_ours(f.filename)]
    assert {frame.name for frame in ours} <= {"forward", "call", "new_call"}


def test_values_of_tensors_are_not_printed_in_layout_errors() -> None:
    secret = torch.full((4, 3), 1234.5)
    with pytest.raises(safeloss.LayoutError) as caught:
        SafeBCEWithLogitsLoss()(secret, secret[0])
    assert "1234" not in str(caught.value)


def test_out_of_memory_and_strange_errors_are_not_ours() -> None:
    class StrangeError(Exception):
        pass

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.nn.functional.cross_entropy:
                raise StrangeError
            return func(*args, **(kwargs or {}))

    with Mode(), pytest.raises(StrangeError):
        SafeCrossEntropyLoss()(zeros(B, C), long(B))


def test_beartype_has_the_last_word(monkeypatch) -> None:
    monkeypatch.setattr(_verifying, "is_bearable", lambda value, hint: False)
    with pytest.raises(safeloss.LayoutError, match="neither the shape nor the dtype"):
        SafeCrossEntropyLoss()(zeros(B, C), long(B))


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """This process trains with others, of which there is none."""
    pytest.importorskip("torch.distributed.fsdp", reason="torch without torch.distributed")
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", store, world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", MESSAGES)
def test_every_refusal_names_the_rank(group: None, name: str) -> None:
    error = refusal(name)
    assert error.rank == 0
    text = f"{type(error).__name__}: {error}\n"
    assert text.count("Rank: 0\n") == 1
    assert text.replace("Rank: 0\n", "") == (GOLDEN / f"{name}.txt").read_text()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo looks at it
def test_refusals_of_compiled_code_name_the_rank(group: None) -> None:
    torch._dynamo.reset()
    for whole in (False, True):  # where the whole must compile, Dynamo wraps the error
        loss = torch.compile(SafeBCEWithLogitsLoss(), backend="eager", fullgraph=whole)
        with pytest.raises(Exception, match="Rank: 0"):
            loss(zeros(B, C), zeros(B))
    with pytest.raises(safeloss.OptionError) as caught:
        SafeBCEWithLogitsLoss(reduction="avg")
    assert caught.value.rank == 0
    head = safeloss.typed(_head)
    with pytest.raises(safeloss.LayoutError, match="Rank: 0"):
        torch.compile(head, backend="eager")(zeros(B))


def _head(x: Float[torch.Tensor, "batch features"]) -> torch.Tensor:
    return x


def test_a_process_that_is_alone_has_no_rank() -> None:
    assert refusal("tie").rank is None
    assert "Rank" not in str(refusal("tie"))


@pytest.mark.parametrize("name", MESSAGES)
def test_the_representation_has_the_text_and_the_fixes(name: str) -> None:
    """A launcher may print nothing else."""
    error = refusal(name)
    assert repr(error).startswith(f"{type(error).__name__}({str(error)!r}")
    assert all(repr(str(fix)) in repr(error) for fix in error.fixes)
