"""`typed`: a wrong head is refused at its own line, in eager mode and inside the compiler."""

import inspect
import os
import pickle
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

import jaxtyping
import pytest
import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor, nn
from torch._dynamo.eval_frame import _debug_get_cache_entry_list
from torch._dynamo.testing import CompileCounter

import safeloss
from safeloss import ArgumentTypeError, DTypeError, LayoutError, layouts, typed

B, C, T, D = 4, 3, 5, 6
rand, long = torch.rand, lambda *shape: torch.zeros(shape, dtype=torch.long)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


# Verdicts ----------------------------------------------------------------------------------------


@typed
def plain(x: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
    return x.sum(1)


@typed
def squeezed(x: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
    return x.sum(1, keepdim=True).squeeze()  # a last batch of one loses its axis


@typed
def forgotten(x: Float[Tensor, "batch features"]) -> layouts.BinaryLogits:
    return x * 1  # two outputs and more are no binary head


@typed
def binary(x: Float[Tensor, "batch features"]) -> layouts.BinaryLogits:
    return x.sum(1, keepdim=True)


@typed
def transposed(x: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    return x.mT * 1


@typed
def chosen(x: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    return x.argmax(1, keepdim=True).expand_as(x)  # indices for scores


@typed
def wide(x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch 2*features"]:
    return torch.cat([x, x], 1)


@typed
def narrow(x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features-1"]:
    return x[:, :2]


@typed
def masked(
    x: Float[Tensor, "batch time"],
    mask: Optional[Bool[Tensor, "batch time"]] = None,  # noqa: UP045  # people write it
) -> Float[Tensor, " batch"]:
    return x.sum(1) if mask is None else (x * mask).sum(1)


@typed
def either(x: Float[Tensor, "batch time"] | Integer[Tensor, " batch"] | None) -> Tensor | None:
    return None if x is None else x * 1


@typed
def scaled(x: Float[Tensor, " batch"], factor: int = 2, *, shift: float = 0.0) -> Tensor:
    return x * factor + shift


@typed
def pair(
    x: Float[Tensor, "batch time"],
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " time"]]:
    return x.sum(1), x.sum(0)


@typed
def swapped(
    x: Float[Tensor, "batch time"],
) -> tuple[Float[Tensor, " time"], Float[Tensor, " batch"]]:
    return x.sum(1), x.sum(0)


@typed
def half(x: Float[Tensor, "batch time"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " time"]]:
    return (x.sum(1),)  # type: ignore[return-value]


@typed
def nothing(x: Float[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    x * 1  # and `return` was forgotten


@typed
def several(x: Float[Tensor, " batch"], *more: Float[Tensor, " batch"]) -> Tensor:
    return torch.stack([x, *more])


@typed
def by_name(x: Float[Tensor, " batch"], **more: Float[Tensor, " batch"]) -> Tensor:
    return torch.stack([x, *more.values()])


@typed
def spatial(x: Float[Tensor, "batch *space"], y: Float[Tensor, "*space"]) -> Shaped[Tensor, "..."]:
    return x + y


@typed
def written(x: "Float[Tensor, 'batch time']") -> "Later":
    return x.sum(1)


Later = Float[Tensor, " batch"]


VERDICTS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], type | None, str]] = [
    # head,    arguments,                   by name,   refused as,   and said of it
    (plain, (rand(B, D),), {}, None, ""),
    (plain, (rand(1, D),), {}, None, ""),
    (plain, (rand(0, D),), {}, None, ""),
    (plain, (), {"x": rand(B, D)}, None, ""),
    (plain, (rand(B),), {}, LayoutError, "float32 [4]"),
    (plain, (), {"x": rand(B, D, 1)}, LayoutError, "float32 [4, 6, 1]"),
    (plain, (long(B, D),), {}, DTypeError, "int64 [4, 6]"),
    (plain, (None,), {}, ArgumentTypeError, "`x`"),
    (plain, (3.0,), {}, ArgumentTypeError, "`x`"),
    (plain, ([rand(D)],), {}, ArgumentTypeError, "`x`"),
    (squeezed, (rand(B, D),), {}, None, ""),
    (squeezed, (rand(1, D),), {}, LayoutError, "float32 []"),
    (binary, (rand(B, D),), {}, None, ""),
    (forgotten, (rand(B, 1),), {}, None, ""),
    (forgotten, (rand(B, 2),), {}, LayoutError, "float32 [4, 2]"),
    (transposed, (rand(B, C),), {}, LayoutError, "float32 [3, 4]"),
    (transposed, (rand(C, C),), {}, None, ""),  # equal sizes hide it: shapes cannot tell
    (chosen, (rand(B, C),), {}, DTypeError, "int64 [4, 3]"),
    (wide, (rand(B, D),), {}, None, ""),
    (narrow, (rand(B, 3),), {}, None, ""),
    (narrow, (rand(B, 4),), {}, LayoutError, "float32 [4, 2]"),
    (masked, (rand(B, T),), {}, None, ""),
    (masked, (rand(B, T), None), {}, None, ""),
    (masked, (rand(B, T), rand(B, T) > 0.5), {}, None, ""),
    (masked, (rand(B, T),), {"mask": rand(B, T) > 0.5}, None, ""),
    (masked, (rand(B, T),), {"mask": rand(B, 1) > 0.5}, LayoutError, "bool [4, 1]"),
    (masked, (rand(B, T), rand(B, T)), {}, DTypeError, "`mask`"),
    (masked, (rand(B, T), 1), {}, ArgumentTypeError, "`mask`"),
    (either, (rand(B, T),), {}, None, ""),
    (either, (long(B),), {}, None, ""),
    (either, (None,), {}, None, ""),
    (either, (rand(B),), {}, LayoutError, "float32 [4]"),
    (either, (rand(B) > 0.5,), {}, DTypeError, "bool [4]"),
    (scaled, (rand(B), 3), {"shift": 1.0}, None, ""),
    (scaled, (rand(B, 1), 3), {"shift": 1.0}, LayoutError, "float32 [4, 1]"),
    (pair, (rand(B, T),), {}, None, ""),
    (swapped, (rand(B, B),), {}, None, ""),
    (swapped, (rand(B, T),), {}, LayoutError, "float32 [4]"),
    (half, (rand(B, T),), {}, ArgumentTypeError, "the return value"),
    (nothing, (rand(B, T),), {}, ArgumentTypeError, "the return value"),
    (several, (rand(B),), {}, None, ""),
    (several, (rand(B), rand(B), rand(B)), {}, None, ""),
    (several, (rand(B, 1), rand(B, 1)), {}, LayoutError, "float32 [4, 1]"),
    (several, (rand(B), rand(B), long(B)), {}, DTypeError, "more"),
    (by_name, (rand(B),), {"y": rand(B)}, None, ""),
    (by_name, (rand(B),), {"y": long(B)}, DTypeError, "y"),
    (spatial, (rand(B, C, D), rand(C, D)), {}, None, ""),
    (spatial, (rand(B, C, D), rand(1, D)), {}, LayoutError, "float32 [1, 6]"),
    (written, (rand(B, T),), {}, None, ""),
    (written, (rand(B),), {}, LayoutError, "float32 [4]"),
]
verdicts = pytest.mark.parametrize(("head", "args", "kwargs", "error", "said"), VERDICTS)


@verdicts
def test_eager(head, args, kwargs, error, said) -> None:
    if error is None:
        _equal(head(*args, **kwargs), head.__wrapped__(*args, **kwargs))
        return
    with pytest.raises(error) as refusal:
        head(*args, **kwargs)
    assert type(refusal.value) is error
    assert refusal.value.loss == head.__name__
    assert said in str(refusal.value)


def _known(head: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call it once in eager mode. A first call inside the compiler is a test of its own."""
    with suppress(safeloss.SafeLossError):
        head(*args, **kwargs)


@pytest.mark.slow
@verdicts
@pytest.mark.parametrize("dynamic", [None, True])
def test_in_one_graph(head, args, kwargs, error, said, dynamic) -> None:
    _known(head, *args, **kwargs)
    compiled = torch.compile(head, backend="eager", fullgraph=True, dynamic=dynamic)
    if error is None:
        _equal(compiled(*args, **kwargs), head.__wrapped__(*args, **kwargs))
        return
    # Dynamo wraps what is raised inside a single graph: owner and rule stand in its text.
    with pytest.raises(torch._dynamo.exc.TorchDynamoException) as refusal:
        compiled(*args, **kwargs)
    assert f"{head.__name__}: " in str(refusal.value)
    assert "does not match its annotation" in str(refusal.value)


@pytest.mark.slow
@verdicts
def test_compiled_with_graph_breaks_allowed(head, args, kwargs, error, said) -> None:
    _known(head, *args, **kwargs)
    compiled = torch.compile(head, backend="eager")
    if error is None:
        _equal(compiled(*args, **kwargs), head.__wrapped__(*args, **kwargs))
        return
    with pytest.raises(error) as refusal:
        compiled(*args, **kwargs)
    assert type(refusal.value) is error
    assert said in str(refusal.value)


def _equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0)


FIRST = [plain, binary, masked, pair, spatial, written]


@pytest.mark.slow
@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("head", FIRST, ids=lambda head: head.__name__)
def test_the_first_call_may_be_a_compiled_one(head, fullgraph) -> None:
    """Whoever compiles his model never calls it before: nothing may wait for an eager call."""
    args = next(row[1] for row in VERDICTS if row[0] is head and row[3] is None and row[1])
    fresh, counter = typed(head.__wrapped__), CompileCounter()
    compiled = torch.compile(fresh, backend=counter, fullgraph=fullgraph)
    _equal(compiled(*args), head.__wrapped__(*args))
    assert counter.frame_count == 1


@pytest.mark.slow
def test_a_name_may_be_defined_after_the_head_and_before_a_compiled_call() -> None:
    """A string that cannot be read at the decoration is read at the first call, traced or not."""
    scope: dict[str, Any] = {"typed": typed, "Float": Float, "Tensor": Tensor}
    source = "@typed\ndef late(x: 'Features') -> 'Float[Tensor, \" batch\"]':\n    return x.sum(1)"
    exec(compile(source, "<test>", "exec", dont_inherit=True), scope)
    scope["Features"] = Float[Tensor, "batch features"]
    compiled = torch.compile(scope["late"], backend="eager", fullgraph=True)
    assert compiled(rand(B, D)).shape == (B,)


@pytest.mark.slow
def test_hints_beyond_the_plain_matcher() -> None:
    """A list is beartype's, in eager mode alone; a refusal must still get through the compiler."""

    @typed
    def first(xs: list[Float[Tensor, "batch ..."]]) -> Float[Tensor, "batch 1"]:
        return xs[0] * 1

    compiled = torch.compile(first, backend="eager")
    for run in (first, compiled):
        assert run([rand(B, 1)]).shape == (B, 1)
        with pytest.raises(LayoutError):
            run([rand(B)])
    with pytest.raises(ArgumentTypeError):
        first([long(B, 1)])


# Modules -----------------------------------------------------------------------------------------


class Head(nn.Module):
    """Right or wrong by the number of its outputs."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(D, outputs)

    @typed
    def forward(self, x: Float[Tensor, "batch features"]) -> layouts.BinaryLogits:
        return self.linear(x)

    @typed
    def probabilities(
        self, x: Float[Tensor, "batch features"], *, scale: float = 1.0
    ) -> Float[Tensor, "batch 1"]:
        return (self(x) * scale).sigmoid()

    @classmethod
    @typed
    def named(cls, x: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return x * 2

    @staticmethod
    @typed
    def unnamed(x: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        return x * 2


class Untyped(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Model(nn.Module):
    """A head and a loss; whether the loss was reached."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head, self.reached = Head(outputs), False

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        scores = self.head(x)
        self.reached = True
        return safeloss.functional.binary_cross_entropy_with_logits(scores, target)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo looks at it
@pytest.mark.parametrize("mode", ["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def test_a_wrong_head_is_refused_at_its_own_line(mode) -> None:
    _known(Model(1), rand(B, D), rand(B))
    model = Model(2)
    run = model if mode == "eager" else torch.compile(model, backend="eager")
    with pytest.raises(LayoutError, match=r"Head\.forward: the return value") as refusal:
        run(rand(B, D), rand(B))
    assert not model.reached
    lines = [frame.line for frame in traceback.extract_tb(refusal.tb)]
    own = ["scores = self.head(x)"]
    if mode == "compiled" and torch.__version__ < "2.7":  # where Dynamo keeps the `def` line only
        own.append("def forward(self, x: Tensor, target: Tensor) -> Tensor:")
    assert any(line in lines for line in own)
    assert not any("binary_cross_entropy" in str(line) for line in lines)


def test_the_refusal_is_data_and_survives_a_pickle() -> None:
    with pytest.raises(LayoutError) as refusal:
        Head(2)(rand(B, D))
    error = refusal.value
    assert error.loss == "Head.forward"
    assert error.rule == "the return value does not match its annotation."
    assert [(row.name, row.came) for row in error.arguments] == [
        ("x", "float32 [4, 6]"),
        ("return", "float32 [4, 2]"),
    ]
    assert "batch = 4, features = 6" in error.advice
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True, False])
def test_as_many_graphs_as_undecorated_over_a_varying_batch(dynamic) -> None:
    _known(Head(1), rand(B, D))
    graphs, operations = {}, {}
    for kind in (Head, Untyped):
        torch._dynamo.reset()
        counter = CompileCounter()
        head = torch.compile(kind(1), backend=counter, fullgraph=True, dynamic=dynamic)
        for batch in (4, 7, 4, 9, 12):
            assert head(rand(batch, D)).shape == (batch, 1)
        graphs[kind], operations[kind] = counter.frame_count, counter.op_count
    assert graphs[Head] == graphs[Untyped]
    assert operations[Head] == operations[Untyped]
    if dynamic is None:
        assert graphs[Head] == 2, "one static, one dynamic"


@pytest.mark.slow
def test_a_compiled_head_refuses_a_later_batch() -> None:
    """What was compiled for a right batch is guarded: a wrong one does not slip in."""
    _known(squeezed, rand(B, D))
    head = torch.compile(squeezed, backend="eager")
    for batch in (4, 7, 9):
        assert head(rand(batch, D)).shape == (batch,)
    with pytest.raises(LayoutError):
        head(rand(1, D))
    with pytest.raises(LayoutError):
        head(rand(4, D, 1))
    with pytest.raises(DTypeError):
        head(long(4, D))
    assert head(rand(11, D)).shape == (11,)


@pytest.mark.slow
def test_no_graph_breaks() -> None:
    _known(Head(1), rand(B, D))
    explained = torch._dynamo.explain(Model(1))(rand(B, D), rand(B))
    assert explained.graph_break_count == 0
    assert explained.graph_count == 1


METHODS = [
    # method,               right,       wrong
    (Head(1).forward, (rand(B, D),), (rand(D),)),
    (Head(1).probabilities, (rand(B, D),), (rand(D),)),
    (Head.named, (rand(B),), (rand(B, 1),)),
    (Head(1).named, (rand(B),), (rand(B, 1),)),
    (Head.unnamed, (rand(B),), (rand(B, 1),)),
    (Head(1).unnamed, (rand(B),), (rand(B, 1),)),
]


@pytest.mark.parametrize("mode", ["eager", pytest.param("compiled", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "right", "wrong"), METHODS)
def test_methods(method, right, wrong, mode) -> None:
    _known(method, *right)
    run = method if mode == "eager" else torch.compile(method, backend="eager")
    assert run(*right).shape[0] == B
    with pytest.raises(LayoutError, match=method.__qualname__.replace(".", r"\.")):
        run(*wrong)


def test_it_looks_like_the_function_that_it_checks() -> None:
    bare = Head.probabilities.__wrapped__
    assert inspect.signature(Head.probabilities) == inspect.signature(bare)
    assert Head.probabilities.__name__ == "probabilities"
    assert Head.probabilities.__qualname__ == "Head.probabilities"
    assert Head.probabilities.__code__.co_name == "probabilities"


def test_what_the_type_checkers_read_runs() -> None:
    usage = runpy.run_path(str(Path(__file__).parent / "typing" / "usage.py"))
    usage["main"]()
    assert len(usage["what_no_checker_lets_pass"]()) == 3
    assert "target.view_as(input)" in usage["read_a_refusal"]()


# Axes and contexts -------------------------------------------------------------------------------


@typed
def inner(x: Float[Tensor, "batch features"]) -> Float[Tensor, " features"]:
    return x.sum(0)


@typed
def outer(x: Float[Tensor, "batch features"]) -> Float[Tensor, " features"]:
    return inner(x.mT @ x)  # whose `batch` is another one


@pytest.mark.parametrize("mode", ["eager", pytest.param("compiled", marks=pytest.mark.slow)])
def test_axes_are_those_of_one_call(mode) -> None:
    _known(outer, rand(B, D))
    run = outer if mode == "eager" else torch.compile(outer, backend="eager", fullgraph=True)
    assert run(rand(B, D)).shape == (D,)
    assert run(rand(B + 1, D)).shape == (D,)  # nothing is left of the call before


def test_an_exception_of_the_body_is_the_body_s() -> None:
    class OwnError(Exception):
        pass

    @typed
    def failing(x: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        raise OwnError

    for size in (2, 3):
        with pytest.raises(OwnError):
            failing(rand(size))


def test_hints_that_are_all_strings() -> None:
    """`from __future__ import annotations` is not ours to forbid."""
    source = (
        "from __future__ import annotations\n"
        "@typed\n"
        "def head(x: Float[Tensor, 'batch time']) -> Float[Tensor, ' batch']:\n"
        "    return x.sum(1)\n"
    )
    scope: dict[str, Any] = {"typed": typed, "Float": Float, "Tensor": Tensor}
    exec(compile(source, "<test>", "exec", dont_inherit=True), scope)
    assert scope["head"](rand(B, T)).shape == (B,)
    with pytest.raises(LayoutError):
        scope["head"](rand(B))


def test_without_hints_nothing_is_checked() -> None:
    @typed
    def bare(x, y=None):
        return x

    assert bare(3) == 3
    assert bare(x="y", y=1) == "y"


def _heads(count: int) -> list[Callable[[Tensor], Tensor]]:
    """Heads as different modules have them: of one name, called before."""

    def make(position: int) -> Callable[[Tensor], Tensor]:
        @typed
        def forward(x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch features"]:
            return x + position

        _known(forward, rand(2, 2))
        return forward

    return [make(position) for position in range(count)]


@pytest.mark.slow
def test_heads_do_not_share_a_cache() -> None:
    """Dynamo keeps what it has compiled by code object, and guards on all of it at every call."""
    heads = _heads(3)
    for position, head in enumerate(heads):
        compiled = torch.compile(head, backend="eager", fullgraph=True)
        assert compiled(torch.zeros(2, 2))[0, 0] == position
    assert [len(_debug_get_cache_entry_list(head.__code__)) for head in heads] == [1, 1, 1]


@pytest.mark.slow
def test_a_head_that_dynamo_gives_up_on_leaves_the_others_alone() -> None:
    """It skips a code object for good once that was compiled too often, and says little of it."""
    one, two = _heads(2)
    static = torch.compile(one, backend="eager", dynamic=False)
    for batch in range(2, 13):  # the limit is 8
        static(rand(batch, 2))
    counter = CompileCounter()
    torch.compile(two, backend=counter)(rand(2, 2))
    assert counter.frame_count == 1


# jaxtyping's switch ------------------------------------------------------------------------------


@pytest.fixture
def _disabled() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_disabled")
def test_the_switch_turns_it_off() -> None:
    assert transposed(rand(B, C)).shape == (C, B)


@pytest.mark.slow
@pytest.mark.usefixtures("_disabled")
def test_the_switch_turns_it_off_inside_the_compiler() -> None:
    jaxtyping.config.update("jaxtyping_disable", False)
    _known(transposed, rand(B, C))
    jaxtyping.config.update("jaxtyping_disable", True)
    compiled = torch.compile(transposed, backend="eager", fullgraph=True)
    assert compiled(rand(B, C)).shape == (C, B)
    jaxtyping.config.update("jaxtyping_disable", False)
    with pytest.raises(torch._dynamo.exc.TorchDynamoException, match="transposed"):
        compiled(rand(B, C))


SWITCHED = """
import torch, safeloss
from jaxtyping import Float

@safeloss.typed
def head(x: Float[torch.Tensor, "batch features"]) -> Float[torch.Tensor, " batch"]:
    return x

try:
    print(tuple(head(torch.zeros(2, 3)).shape))
except safeloss.LayoutError as error:
    print(error.rule)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("switch", "said"), [("0", "the return value does not match its annotation."), ("1", "(2, 3)")]
)
def test_the_switch_as_a_variable_of_the_environment(switch, said) -> None:
    environment = {**os.environ, "JAXTYPING_DISABLE": switch}
    run = subprocess.run(
        [sys.executable, "-c", SWITCHED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == said


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python keeps no positions of calls")
def test_a_refusal_names_the_arguments_of_the_call() -> None:
    images, model = rand(B, D), Head(2)
    with pytest.raises(LayoutError, match=r"x      = images +float32 \[4, 6\]"):
        model(images)
    with pytest.raises(LayoutError, match=r"x      = images\.clone\(\) "):
        model(images.clone())
    # What stands in between may pass on other tensors.
    with pytest.raises(LayoutError) as refusal:
        torch.nn.Sequential(torch.nn.Identity(), model)(images.clone())
    assert not refusal.value.expressions
