"""`trace`: every change of a shape is known by its line, and nothing else changes."""

import copy
import pickle
import subprocess
import sys
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

import safeloss
from safeloss import SafeBCEWithLogitsLoss, SafeLossError, _trace
from safeloss import functional as SF
from safeloss._torch import active_modes
from safeloss._trace import MOST_STEPS, MOST_TENSORS

B, C = 8, 3
SCORES, COLUMN, CLASSES = torch.randn(B, C), torch.zeros(B, 1), torch.zeros(B, dtype=torch.long)


def told(steps) -> list[str]:
    """The histories without places: what changed, and by what."""
    return ["  ".join(str(step).split("  ")[:2]) for step in steps]


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert active_modes() == []


# What is seen ------------------------------------------------------------------------------------

OPERATIONS = [
    (lambda: COLUMN.squeeze(), "[8, 1] -> [8]  squeeze()"),
    (lambda: torch.squeeze(input=COLUMN), "[8, 1] -> [8]  squeeze()"),
    (lambda: COLUMN.clone().squeeze_(), "[8, 1] -> [8]  squeeze_()"),
    (lambda: CLASSES.unsqueeze(1), "[8] -> [8, 1]  unsqueeze()"),
    (lambda: SCORES.view(-1), "[8, 3] -> [24]  view()"),
    (lambda: SCORES.reshape(3, 8), "[8, 3] -> [3, 8]  reshape()"),
    (lambda: SCORES.flatten(), "[8, 3] -> [24]  flatten()"),
    (lambda: nn.Flatten(0)(SCORES), "[8, 3] -> [24]  flatten()"),
    (lambda: SCORES.T, "[8, 3] -> [3, 8]  T"),
    (lambda: SCORES.movedim(1, 0), "[8, 3] -> [3, 8]  movedim()"),
    (lambda: COLUMN.expand(B, C), "[8, 1] -> [8, 3]  expand()"),
    (lambda: SCORES[:, 0], "[8, 3] -> [8]  indexing"),
    (lambda: CLASSES[None], "[8] -> [1, 8]  indexing"),
    (lambda: SCORES[CLASSES == 1], "[8, 3] -> [0, 3]  indexing"),
    (lambda: next(iter(SCORES)), "[8, 3] -> [3]  unbind()"),
    (lambda: SCORES.split(4)[1], "[8, 3] -> [4, 3]  split()"),
    (lambda: SCORES.max(1).indices, "float32 [8, 3] -> int64 [8]  max()"),
    (lambda: SCORES.argmax(1), "float32 [8, 3] -> int64 [8]  argmax()"),
    (lambda: CLASSES.float(), "int64 [8] -> float32 [8]  float()"),
    (lambda: COLUMN.long(), "float32 [8, 1] -> int64 [8, 1]  long()"),
    (lambda: COLUMN.to(torch.float64), "float32 [8, 1] -> float64 [8, 1]  to()"),
    (lambda: SCORES == 0, "float32 [8, 3] -> bool [8, 3]  eq()"),
    (lambda: F.one_hot(CLASSES, C), "[8] -> [8, 3]  one_hot()"),
    (lambda: nn.Linear(C, 1)(SCORES), "[8, 3] -> [8, 1]  linear()"),
    (lambda: SCORES @ torch.zeros(C, 1), "[8, 3] -> [8, 1]  matmul()"),
    (lambda: torch.einsum("bc,bc->b", SCORES, SCORES), "[8, 3] -> [8]  einsum()"),
    (lambda: nn.Embedding(2, 4)(CLASSES), "int64 [8] -> float32 [8, 4]  embedding()"),
    (lambda: SCORES.mean(), "[8, 3] -> []  mean()"),
    (lambda: CLASSES.float() - COLUMN, "[8] -> [8, 8]  sub()"),  # the bug itself
    (lambda: torch.cat([COLUMN, COLUMN]), "[8, 1] (first of 2) -> [16, 1]  cat()"),
    (lambda: torch.stack((CLASSES,) * 3), "[8] (first of 3) -> [3, 8]  stack()"),
    (lambda: torch.zeros(B, 1), "float32 [8, 1]  zeros()"),
    (lambda: torch.tensor([1, 0]), "int64 [2]  tensor()"),
]


@pytest.mark.parametrize(("make", "expected"), OPERATIONS, ids=[text for _, text in OPERATIONS])
def test_an_operation_that_changes_something_is_a_step(make, expected) -> None:
    with safeloss.trace() as t:
        made = make()
    step = t.history(made)[0]
    assert told([step]) == [expected]
    assert step.after == (made.dtype, tuple(made.shape))
    assert Path(step.line.file) == Path(__file__)
    assert step.line.number == make.__code__.co_firstlineno
    assert str(step).endswith(f"test_trace.py:{step.line.number}  {step.line.text}")


@pytest.mark.parametrize(
    "make",
    [
        lambda: COLUMN,
        lambda: COLUMN.relu() * 2 + 1,
        lambda: COLUMN.view(B, 1),
        lambda: COLUMN.float(),
        lambda: COLUMN.squeeze(0),
        lambda: COLUMN.detach().clone(),
        lambda: torch.FloatTensor(2),  # which torch shows to nobody
        lambda: torch.from_numpy(COLUMN.numpy()),  # nor this
        lambda: nn.Parameter(COLUMN),
    ],
)
def test_what_changes_nothing_is_no_step(make) -> None:
    with safeloss.trace() as t:
        assert t.history(make()) == ()


# Whose history goes on ---------------------------------------------------------------------------


def _set_data() -> Tensor:
    made = torch.zeros(2)
    made.data = SCORES
    return made


FOLLOWED = [
    (
        lambda: F.dropout(torch.zeros(B, 1).squeeze().relu() + 1).long(),
        ["float32 [8] -> int64 [8]  long()", "[8, 1] -> [8]  squeeze()", "float32 [8, 1]  zeros()"],
    ),
    (lambda: torch.tensor(2.0) * torch.ones(4), ["float32 [4]  ones()"]),
    (lambda: torch.where(torch.zeros(4) > 0, torch.ones(4), 0.0), ["float32 [4]  ones()"]),
    (
        lambda: torch.addmm(torch.zeros(3), torch.ones(2, 4), torch.zeros(4, 3)),
        ["[2, 4] -> [2, 3]  addmm()", "float32 [2, 4]  ones()"],
    ),
    (
        lambda: torch.broadcast_tensors(torch.zeros(4, 1), torch.ones(5))[1],
        ["[5] -> [4, 5]  broadcast_tensors()", "float32 [5]  ones()"],
    ),
    (
        lambda: torch.meshgrid([torch.zeros(4), torch.ones(5)], indexing="ij")[1],
        ["[5] -> [4, 5]  meshgrid()", "float32 [5]  ones()"],
    ),
    (
        lambda: torch.add(torch.ones(4), 1, out=torch.zeros(4)),
        ["float32 [4]  ones()"],
    ),
    (_set_data, ["[2] -> [8, 3]  data", "float32 [2]  zeros()"]),
    (lambda: copy.deepcopy(torch.zeros(2)), ["float32 [2]  zeros()"]),
    (
        lambda: nn.LSTM(3, 2)(SCORES)[0],
        [
            "[8, 1, 2] -> [8, 2]  squeeze()",
            "[8, 1, 3] -> [8, 1, 2]  lstm()",
            "[8, 3] -> [8, 1, 3]  unsqueeze()",
        ],
    ),
]


@pytest.mark.parametrize(("make", "expected"), FOLLOWED)
def test_the_history_that_goes_on(make, expected) -> None:
    with safeloss.trace() as t:
        made = make()
    assert told(t.history(made)) == expected


def test_a_history_that_was_left_behind_unseen_is_dropped() -> None:
    with safeloss.trace() as t:
        made = torch.zeros(4)
        with torch._C.DisableTorchFunction():
            made.unsqueeze_(1)
        assert t.history(made) == ()
        assert told(t.history(made.T)) == ["[4, 1] -> [1, 4]  T"]


# What a refusal says -----------------------------------------------------------------------------

PROGRAM = """\
import torch
import safeloss

head = torch.nn.Linear(10, 1)
images, labels = torch.randn(8, 10), torch.ones(8, 1)
with safeloss.trace():
    logits = head(images).relu()
    labels = labels.squeeze()
    labels = labels[None]
    try:
        safeloss.SafeBCEWithLogitsLoss()(logits, labels)
    except safeloss.SafeLossError as error:
        print(error)
"""
HISTORY = """\
History, newest first:
    input    [8, 10] -> [8, 1]  linear()  train.py:7  logits = head(images).relu()
    target   [8] -> [1, 8]  indexing  train.py:9  labels = labels[None]
             [8, 1] -> [8]  squeeze()  train.py:8  labels = labels.squeeze()
"""


@pytest.mark.slow
def test_a_refusal_ends_with_the_histories(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, "-W", "error", "train.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.stdout.endswith(HISTORY), run.stderr


@safeloss.typed
def wrong_head(x: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
    return x[:, :1]


def refused_in_a_distance() -> Tensor:
    def distance(x: Tensor, y: Tensor) -> Tensor:
        return (x - safeloss.align(y.T, like=x)).norm(dim=-1)

    loss = safeloss.SafeTripletMarginWithDistanceLoss(distance_function=distance)
    return loss(SCORES.clone(), torch.ones(B, C), SCORES.clone())


REFUSED = [
    # what is refused, the arguments whose history is known, and the newest step of the last
    (lambda: SafeBCEWithLogitsLoss()(torch.zeros(B, C), COLUMN.squeeze()), ["input", "target"]),
    (lambda: SafeBCEWithLogitsLoss()(SCORES, COLUMN.squeeze()), ["target"]),
    (lambda: SafeBCEWithLogitsLoss()(SCORES, COLUMN), []),
    (lambda: SF.cross_entropy(SCORES, target=CLASSES.float()), ["target"]),
    (lambda: safeloss.align(COLUMN.squeeze()[None], like=COLUMN), ["target"]),
    (lambda: SafeBCEWithLogitsLoss()(COLUMN.squeeze(), CLASSES.float() + 2), ["input", "target"]),
    (lambda: SafeBCEWithLogitsLoss()(COLUMN.squeeze(), [1.0]), ["input"]),
    (lambda: SF.binary_cross_entropy_with_logits(SCORES, SCORES, torch.ones(B)), ["weight"]),
    (lambda: SF.l1_loss(torch.zeros(B), torch.zeros(B, device="meta")), ["input", "target"]),
    (lambda: wrong_head(torch.zeros(B, C)), ["x", "return"]),
    (lambda: wrong_head(COLUMN.squeeze()), ["x"]),
    (refused_in_a_distance, []),  # by `align`, whose arguments torch hid
]


@pytest.mark.parametrize(("call", "known"), REFUSED)
def test_every_face_knows_the_histories_of_its_arguments(call, known) -> None:
    with safeloss.trace(), pytest.raises(SafeLossError) as caught:
        call()
    error = caught.value
    assert [past.name for past in error.history] == known
    assert all(str(past.steps[0]) in str(error) for past in error.history)
    assert ("History" in str(error)) == bool(known)
    for copied in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (str(copied), copied.history) == (str(error), error.history)
    with pytest.raises(SafeLossError) as caught:
        call()
    assert caught.value.history == ()


# Where it is seen --------------------------------------------------------------------------------


def newest(call) -> list[str]:
    """The newest step of every argument of the call that is refused."""
    with safeloss.trace(), pytest.raises(SafeLossError) as caught:
        call()
    return told([past.steps[0] for past in caught.value.history])


def loss(x: Tensor, y: Tensor) -> Tensor:
    return SF.mse_loss((x @ torch.ones(C, 1)).relu(), y.squeeze(-1)[None])


def test_under_autocast() -> None:
    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            SafeBCEWithLogitsLoss()(nn.Linear(C, 1)(SCORES), COLUMN.T)

    assert newest(call) == ["float32 [8, 3] -> bfloat16 [8, 1]  linear()", "[8, 1] -> [1, 8]  T"]


def test_under_a_transform_as_its_function_sees_it() -> None:
    expected = ["[8, 3] -> [8, 1]  matmul()", "[8] -> [1, 8]  indexing"]
    assert newest(lambda: torch.func.grad(loss)(SCORES, COLUMN)) == expected
    stacked = SCORES.expand(2, B, C), COLUMN.expand(2, B, 1)
    assert newest(lambda: torch.vmap(loss)(*stacked)) == expected


def test_through_autograd() -> None:
    inside = []

    class Squeeze(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.squeeze()

        @staticmethod
        def backward(ctx, gradient):
            inside.append(t.history(gradient.unsqueeze(1)))
            return gradient.unsqueeze(1)

    leaf = COLUMN.clone().requires_grad_()
    with safeloss.trace() as t:
        made = Squeeze.apply(leaf)
        again = torch.utils.checkpoint.checkpoint(
            lambda x: x.squeeze().exp(), leaf, use_reentrant=False
        )
        (made + again).sum().backward()
    assert told(t.history(made)) == told(t.history(again)) == ["[8, 1] -> [8]  squeeze()"]
    assert inside == [()]  # torch shows nobody what its own functions call
    assert torch.equal(leaf.grad, torch.full((B, 1), 2.0))


class Refuses(TensorDataset):
    def __getitem__(self, index):
        return safeloss.align(self.tensors[0][index].squeeze(), like=torch.zeros(2, 2))


def test_batches_of_this_process() -> None:
    with safeloss.trace() as t:
        for scores, labels in DataLoader(TensorDataset(SCORES, COLUMN), batch_size=4):
            assert told(t.history(scores)) == [
                "[3] (first of 4) -> [4, 3]  stack()",
                "[8, 3] -> [3]  indexing",
            ]
            assert t.history(labels)[0].line.text.startswith("for scores, labels in")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # since Python 3.12, of threads
def test_batches_of_workers() -> None:
    """A worker that was forked records for itself; what it sends begins anew."""
    with safeloss.trace() as t:
        loader = DataLoader(TensorDataset(SCORES, COLUMN), 4, num_workers=1)
        batches = list(loader)
        assert [t.history(part) for batch in batches for part in batch] == [()] * 4
        assert told(t.history(batches[0][1].squeeze())) == ["[4, 1] -> [4]  squeeze()"]
        for context in ("fork", "spawn"):
            refusing = DataLoader(
                Refuses(COLUMN), 4, num_workers=1, multiprocessing_context=context
            )
            with pytest.raises(safeloss.LayoutError) as caught:
                list(refusing)
            assert ("[1] -> []  squeeze()" in str(caught.value)) == (context == "fork")


def test_only_of_this_thread() -> None:
    with safeloss.trace() as t, ThreadPoolExecutor(1) as pool:
        assert t.history(pool.submit(COLUMN.squeeze).result()) == ()
        assert pool.submit(active_modes).result() == []


def test_threads_that_share_one_trace() -> None:
    t, start = safeloss.trace(), Barrier(4)

    def work(thread: int) -> bool:
        start.wait()
        for size in range(1, 100):
            with t:
                made = torch.zeros(size, 1, thread).squeeze(1)
            if (
                told(t.history(made))[0]
                != f"[{size}, 1, {thread}] -> [{size}, {thread}]  squeeze()"
            ):
                return False
        return active_modes() == []

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(2, 6)))


# Nested, entered twice, suspended ----------------------------------------------------------------


def test_nested_traces_both_record() -> None:
    with safeloss.trace() as outer:
        before = COLUMN.squeeze()
        with safeloss.trace() as inner:
            made = before[None]
            # What the inner one has not seen the outer one knows.
            assert told(_trace.history(before)) == told(outer.history(before))
            assert told(_trace.history(made)) == ["[8] -> [1, 8]  indexing"]
        assert len(_trace.history(made)) == 2
    assert inner.history(before) == ()
    assert told(inner.history(made)) == ["[8] -> [1, 8]  indexing"]
    assert told(outer.history(made)) == ["[8] -> [1, 8]  indexing", "[8, 1] -> [8]  squeeze()"]
    assert _trace.history(made) == ()


def test_a_trace_that_is_entered_twice_records_once() -> None:
    with safeloss.trace() as t, t:
        made = COLUMN.clone().squeeze_()
        with t:
            made.unsqueeze_(0)
    assert told(t.history(made)) == ["[8] -> [1, 8]  unsqueeze_()", "[8, 1] -> [8]  squeeze_()"]
    with t:
        made.unsqueeze_(0)
    assert told(t.history(made))[0] == "[1, 8] -> [1, 1, 8]  unsqueeze_()"


def test_as_a_decorator_also_of_what_calls_itself() -> None:
    @safeloss.trace()
    def deep(levels: int, x: Tensor) -> tuple[str, ...]:
        return deep(levels - 1, x.unsqueeze_(0)) if levels else told(_trace.history(x))

    assert deep(2, torch.zeros(3)) == [
        "[1, 3] -> [1, 1, 3]  unsqueeze_()",
        "[3] -> [1, 3]  unsqueeze_()",
    ]


class Passes(TorchFunctionMode):
    """Somebody else's, who counts."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_a_generator_takes_away_its_own_trace_only() -> None:
    def batches():
        with safeloss.trace():
            yield COLUMN.squeeze()

    suspended, other = batches(), Passes()
    made = next(suspended)
    with other:
        suspended.close()
        assert active_modes() == [other]
        assert _trace.history(made) == ()
    exhausted = batches()
    with other:
        assert len([*exhausted]) == 1
        assert active_modes() == [other]


def test_a_trace_that_another_thread_ends() -> None:
    """It stays on the stack of the thread that entered it, and records nothing there any more."""
    t = safeloss.trace()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(t.__enter__).result()
        before = pool.submit(COLUMN.squeeze).result()
        with Passes() as other:
            t.__exit__(None, None, None)
            assert active_modes() == [other]
        after = pool.submit(COLUMN.squeeze).result()
        assert told(t.history(before)) == ["[8, 1] -> [8]  squeeze()"]
        assert t.history(after) == ()
        assert pool.submit(_trace.history, before).result() == ()
        with t:
            assert told(t.history(COLUMN.squeeze())) == ["[8, 1] -> [8]  squeeze()"]


def test_a_trace_that_ends_while_it_handles_a_call() -> None:
    """Torch takes it from the stack meanwhile, and puts it back after the call."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        t.__exit__(None, None, None)
        return (x - y).norm(dim=-1)

    def call() -> tuple[object, ...]:
        with t:
            F.triplet_margin_with_distance_loss(*torch.rand(3, B, C), distance_function=distance)
            return t.history(COLUMN.squeeze())

    t = safeloss.trace()
    with ThreadPoolExecutor(1) as pool:  # a stack of its own
        assert pool.submit(call).result() == ()


def test_an_error_ends_it() -> None:
    with pytest.raises(ZeroDivisionError), safeloss.trace() as t:
        raise ZeroDivisionError
    assert active_modes() == []
    assert t.history(COLUMN) == ()


# What it leaves alone ----------------------------------------------------------------------------


def test_other_modes_see_what_they_would_see_without() -> None:
    def work() -> None:
        model = nn.Sequential(nn.Linear(C, 4), nn.ReLU(), nn.Linear(4, 1))
        SafeBCEWithLogitsLoss()(model(SCORES), COLUMN).backward()
        torch.broadcast_tensors(COLUMN.squeeze(), SCORES.T)

    with Passes() as alone:
        work()
    with Passes() as outer, safeloss.trace():
        work()
    with safeloss.trace(), Passes() as inner:
        work()
    assert alone.calls == outer.calls == inner.calls


def test_tensors_are_not_kept_alive_nor_histories() -> None:
    with safeloss.trace() as t:
        made = COLUMN.squeeze()
        views = [made[None] for _ in range(10)]
        seen = weakref.ref(made)
        del made
    assert seen() is None
    assert len(t._recorder.past) == 10
    del views
    assert len(t._recorder.past) == 0
    recorder = weakref.ref(t._recorder)
    del t
    assert recorder() is None


def test_the_tensors_that_are_followed_and_their_steps_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(_trace, "MOST_TENSORS", 50)
    with safeloss.trace() as t:
        made, kept = torch.zeros(2), []
        for size in range(1, 4 * MOST_STEPS):
            made = made.new_zeros(size)
            kept.append(made)
    assert len(t.history(made)) == MOST_STEPS < MOST_TENSORS
    assert len(t._recorder.past) == 50
    assert [bool(t.history(old)) for old in kept] == [False] * (len(kept) - 50) + [True] * 50


def test_values_gradients_and_random_numbers() -> None:
    def train() -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(C, 4), nn.Dropout(), nn.Linear(4, 1))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            SafeBCEWithLogitsLoss()(model(SCORES), COLUMN.squeeze()).backward()
            optimizer.step()
        return [*model.parameters()]

    expected = train()
    with safeloss.trace():
        traced = train()
    assert all(map(torch.equal, traced, expected))


STRANGE = [
    lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]) * 2,
    lambda: torch.nested.nested_tensor([SCORES, SCORES[:2]], layout=torch.jagged) * 2,
    lambda: copy.deepcopy(nn.LazyLinear(2).double())(SCORES.double()),
    lambda: SCORES.to_sparse().T.to_dense(),
    lambda: torch.nn.utils.rnn.pack_sequence([torch.zeros(3, 2), torch.zeros(2, 2)]).data,
    lambda: SCORES.as_subclass(type("Mine", (Tensor,), {})).T,
    lambda: torch.quantize_per_tensor(SCORES, 0.1, 0, torch.quint8).T,
    lambda: torch.jit.script(nn.Flatten())(SCORES),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", STRANGE)
def test_strange_tensors_pass(make) -> None:
    with safeloss.trace() as t:
        made = make()
        t.history(made)
    assert type(made) is type(make()) or type(made).__name__ == "Mine"


def test_code_that_torch_has_written_is_not_the_users() -> None:
    module = torch.fx.symbolic_trace(nn.Flatten(0))
    with safeloss.trace() as t:
        (step,) = t.history(module(SCORES))
    assert step.line.text == "(step,) = t.history(module(SCORES))"


@pytest.mark.slow
def test_tracers_record_what_they_would_record_without() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    model, x = nn.Sequential(nn.Flatten(0), nn.ReLU()), torch.zeros(4, C)
    batch = {0: torch.export.Dim("batch")}
    tracers = [
        lambda: str(torch.jit.trace(model, x).inlined_graph).count("aten::"),
        lambda: make_fx(model, tracing_mode="symbolic")(x).code,
        lambda: str(torch.export.export(model, (x,), dynamic_shapes=(batch,)).graph),
        lambda: torch.fx.symbolic_trace(model).code,
    ]
    for tracer in tracers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit.trace, which is deprecated
            expected = tracer()
            with safeloss.trace():
                assert tracer() == expected


# Inside a compiler -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_compiled_code_stays_whole_and_compiles_once_more(backend) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()

    def step(x: Tensor, y: Tensor) -> Tensor:
        return SafeLoss(x.squeeze(-1), y)

    SafeLoss = SafeBCEWithLogitsLoss()
    compiled = torch.compile(step, backend=backend, fullgraph=True)
    expected = compiled(COLUMN, CLASSES)
    for _ in range(3):
        with safeloss.trace():
            assert torch.equal(compiled(COLUMN, CLASSES), expected)
    assert torch.equal(compiled(COLUMN, CLASSES), expected)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.slow
def test_of_compiled_code_what_it_leaves_to_torch_is_seen_by_the_users_line() -> None:
    torch._dynamo.reset()
    squeeze = torch.compile(lambda x: x.squeeze(-1).exp())
    head = torch.compile(lambda x: x @ torch.zeros(C, 1))
    with safeloss.trace() as t:
        assert told(t.history(squeeze(COLUMN)[None])) == ["[8] -> [1, 8]  indexing"]
        for step in t.history(head(SCORES)):
            assert Path(step.line.file) == Path(__file__)


@pytest.mark.slow
def test_a_trace_inside_a_compiled_function_breaks_the_graph() -> None:
    def step(x: Tensor) -> Tensor:
        with safeloss.trace():
            return x.squeeze(-1)

    torch._dynamo.reset()
    assert torch.compile(step, backend="eager")(COLUMN).shape == (B,)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(step, backend="eager", fullgraph=True)(COLUMN)
    assert active_modes() == []
