"""Losses that people write themselves, by `checked`, `LossModule` and `wrap`."""

import copy
import functools
import inspect
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import outsiders.losses as own
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

import safeloss
from safeloss import layouts

B = 6
SCORES = torch.randn(B, 1, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([1.0, 0, 0, 1, 1, 0])
ELEMENTWISE = [
    (own.contrastive, own.Contrastive),
    (own.quantile, own.Quantile),
    (own.focal, own.Focal),
    (own.dice, own.Dice),
    (own.policy, own.Policy),
]
UNREDUCED = [pair for pair in ELEMENTWISE if pair[0] is not own.dice]
over_losses = pytest.mark.parametrize(
    ("function", "module"), ELEMENTWISE, ids=lambda each: each.__name__
)
over_unreduced = pytest.mark.parametrize(
    ("function", "module"), UNREDUCED, ids=lambda each: each.__name__
)


@over_losses
def test_labels_of_one_axis_meet_their_own_scores(function: Any, module: Any) -> None:
    expected = function(SCORES, LABELS[:, None])
    for _ in range(2):
        assert torch.equal(function(SCORES, LABELS), expected)
        assert torch.equal(module()(SCORES, LABELS), expected)


@over_losses
def test_what_would_broadcast_is_refused(function: Any, module: Any) -> None:
    for wrong in (LABELS[:1], LABELS[None], LABELS[:3], torch.rand(B, 3)):
        for call in (function, module()):
            with pytest.raises(safeloss.LayoutError):
                call(SCORES, wrong)


def test_one_score_for_class_probabilities_is_refused() -> None:
    for call in (own.soft_cross_entropy, own.SoftCrossEntropy()):
        with pytest.raises(safeloss.LayoutError, match="`pred` has one class"):
            call(SCORES, torch.tensor([1.0, 0, 0, 1, 1, 0]))
    scores, target = torch.randn(B, 3), torch.rand(B, 3).softmax(1)
    expected = F.cross_entropy(scores / 2, target)
    torch.testing.assert_close(own.soft_cross_entropy(scores, target), expected)


def test_labels_that_are_class_indices_are_named() -> None:
    with pytest.raises(safeloss.LayoutError, match="`labels` looks like class indices") as refusal:
        own.focal(torch.randn(B, 3), torch.randint(3, (B,)))
    assert "SafeCrossEntropyLoss()(logits, labels)" in refusal.value.fixes
    assert any(fix.startswith("focal(logits, torch.nn.functional") for fix in refusal.value.fixes)


@over_unreduced
def test_what_a_loss_gets_for_nothing(function: Any, module: Any) -> None:
    unreduced = function(SCORES, LABELS, reduction="none")
    assert unreduced.shape == SCORES.shape
    assert torch.equal(function(SCORES, LABELS), unreduced.mean())
    assert torch.equal(module(reduction="sum")(SCORES, LABELS), unreduced.sum())
    mask = torch.tensor([True, True, False, True, False, False])
    for call in (function, module()):
        kept = function(SCORES[mask], LABELS[mask])
        torch.testing.assert_close(call(SCORES, LABELS, mask=mask), kept)
        weighted = (unreduced[:, 0] * LABELS).sum() / LABELS.sum()
        torch.testing.assert_close(call(SCORES, LABELS, sample_weight=LABELS), weighted)
        divided = call(SCORES, LABELS, denominator=60)
        torch.testing.assert_close(divided, unreduced.sum() / 60)
    empty = SCORES[:0], LABELS[:0]
    assert function(*empty, empty="zero") == 0
    with pytest.raises(safeloss.LayoutError, match="mean over nothing"):
        module(empty="raise")(*empty)
    with pytest.raises(safeloss.OptionError):
        function(SCORES, LABELS, reduction="avg")


def test_a_loss_that_reduces_itself_is_whole() -> None:
    assert [*inspect.signature(own.dice).parameters] == [
        "outputs",
        "targets",
        "eps",
        "check_values",
    ]
    with pytest.raises(TypeError, match="reduction"):
        own.dice(SCORES, LABELS, reduction="none")
    with pytest.raises(TypeError, match="no option 'reduction', only eps, check_values"):
        own.Dice(reduction="none")


def test_values_are_read() -> None:
    for call in (own.focal, own.Focal(), own.dice):
        with pytest.raises(safeloss.ValueRangeError, match="between 0 and 1"):
            call(SCORES, LABELS * 2)
    own.focal(SCORES, LABELS * 2, check_values="never")
    own.Focal(check_values="never")(SCORES, LABELS * 2)


@over_losses
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_to_the_graph_of_the_body(function: Any, module: Any, dynamic: bool) -> None:
    graphs: list[list[Any]] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append([n.target for n in graph.graph.nodes if n.op.startswith("call")])
        return graph.forward

    body = function.signature.kernel.body
    unreduced = "reduction" in inspect.signature(function).parameters

    def bare(x: Tensor, y: Tensor) -> Tensor:
        return body(x, y).mean() if unreduced else body(x, y)

    target = LABELS[:, None]
    for call in (bare, function, module()):
        torch._dynamo.reset()
        compiled = torch.compile(call, backend=backend, fullgraph=True, dynamic=dynamic)
        torch.testing.assert_close(compiled(SCORES, target), function(SCORES, target))
    assert graphs[0] == graphs[1] == graphs[2]


@over_losses
def test_exported(function: Any, module: Any) -> None:
    program = torch.export.export(module(), (SCORES, LABELS))
    assert torch.equal(program.module()(SCORES, LABELS), function(SCORES, LABELS))


@over_losses
def test_a_module_is_copied_and_held(function: Any, module: Any, tmp_path: Any) -> None:
    loss = module()
    expected = loss(SCORES, LABELS)
    for again in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss), loss.to(torch.float64)):
        assert torch.equal(again(SCORES, LABELS), expected)
        with pytest.raises(safeloss.LayoutError):
            again(SCORES, LABELS[:2])

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.loss = nn.Linear(3, 1), loss

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(Holder()).save(tmp_path / "holder.pt")


def test_the_names_of_the_line_that_called() -> None:
    if not hasattr(BaseException, "add_note"):
        pytest.skip("since Python 3.11")
    outputs, batch = torch.randn(B, 1), {"y": torch.rand(3)}
    with pytest.raises(safeloss.LayoutError, match=r'labels = batch\["y"\]'):
        own.focal(outputs, batch["y"])


# Declarations -------------------------------------------------------------------------------------


@safeloss.checked
def weighted(
    key: layouts.ClassScores,
    memory: layouts.ClassIndices,
    plan: layouts.PerClass | None = None,
    *,
    state: float = 1.0,
    kernel: Callable[[Tensor], Tensor] = torch.abs,
    num_classes: int = 3,
    limit: float = float("inf"),
) -> Float[Tensor, "batch *space"]:
    """Names that the generated code could need itself, and defaults without source code."""
    assert num_classes == 3
    return kernel(F.cross_entropy(key * state, memory, plan, reduction="none")).clamp(max=limit)


class Weighted(safeloss.LossModule, kernel=weighted):
    plan: layouts.PerClass | None = None
    state: float = 1.0


def test_any_names_and_defaults() -> None:
    x, y, plan = torch.randn(4, 3), torch.randint(3, (4, 1)), torch.rand(3)
    expected = F.cross_entropy(x * 2, y[:, 0], plan, reduction="none").mean()
    for _ in range(2):
        assert torch.equal(weighted(x, y, plan, state=2.0), expected)
    loss = Weighted(plan=plan, state=2.0)
    assert torch.equal(loss(x, y), expected)
    assert [*loss.state_dict()] == ["plan"]
    assert loss.to(torch.float64).plan.dtype == torch.float64
    assert repr(loss) == "Weighted(state=2.0)"
    with pytest.raises(safeloss.LayoutError, match=r"weight|`plan` has 2 numbers"):
        weighted(x, y, torch.rand(2))
    tie = torch.randn(2, 3, 3), torch.randint(3, (2, 3))
    with pytest.raises(safeloss.AmbiguousLayoutError):
        weighted(*tie)
    last = weighted(*tie, class_dim=-1)
    assert torch.equal(last, F.cross_entropy(tie[0].movedim(-1, 1), tie[1]))
    assert torch.equal(Weighted(class_dim=-1)(*tie), last)


def declare(source: str) -> Any:
    scope = {"layouts": layouts, "Float": Float, "Tensor": Tensor, "torch": torch}
    exec(f"def loss{source}: ...", scope)
    return scope["loss"]


SHAPE = '-> Float[Tensor, "*shape"]'
WRONG = [
    (f"(x: Tensor, y: layouts.Labels) {SHAPE}", "the hint of `x` is torch.Tensor"),
    (f"(x: layouts.Scores, y: Tensor | None = None) {SHAPE}", "the hint of `y` is"),
    (f"(x, y: layouts.Labels) {SHAPE}", "`x` has no hint"),
    ("(x: layouts.Scores, y: layouts.Labels)", "the result has no hint"),
    ("(x: layouts.Scores, y: layouts.Labels) -> Tensor", "the hint of the result is torch.Tensor"),
    ('(x: layouts.Scores) -> Float[Tensor, " batch"]', "no tensor has the axis"),
    (f"(x: layouts.Scores, *y: layouts.Labels) {SHAPE}", "name each parameter"),
    (f"(x: layouts.Scores, mask: layouts.Labels) {SHAPE}", "gives a loss its `mask` itself"),
    (f'(x: layouts.Scores, y: "nope.Labels") {SHAPE}', "cannot be resolved"),
    (f"(gamma: float) {SHAPE}", "the first tensor says how large"),
    (f"(x: layouts.Scores, _y: layouts.Labels) {SHAPE}", "underscore"),
]


@pytest.mark.parametrize(("source", "said"), WRONG)
def test_what_is_no_layout_is_refused_at_decoration(source: str, said: str) -> None:
    with pytest.raises(TypeError) as error:
        safeloss.checked(declare(source))
    assert said in str(error.value)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"safeloss\.wrap"):
        safeloss.checked(nn.MSELoss())


def test_hints_of_the_place_where_it_is_decorated() -> None:
    mine = Float[Tensor, "batch features"]

    @safeloss.checked
    def distance(a: "mine", b: "mine") -> 'Float[Tensor, " batch"]':
        return (a - b).norm(dim=1)

    pair = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(distance(*pair), (pair[0] - pair[1]).norm(dim=1).mean())
    with pytest.raises(safeloss.LayoutError):
        distance(pair[0], pair[1][:1])
    assert mine is not None


def test_a_loss_of_one_tensor() -> None:
    @safeloss.checked
    def entropy(logits: layouts.ClassScores) -> Float[Tensor, "batch *space"]:
        return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)

    x = torch.randn(4, 3)
    for _ in range(2):
        assert torch.equal(entropy(x), -(x.softmax(1) * x.log_softmax(1)).sum(1).mean())
    with pytest.raises(safeloss.LayoutError):
        entropy(x[:, 0])


def test_a_body_that_broadcasts_by_itself_is_said() -> None:
    @safeloss.checked
    def mixing(a: layouts.Scores, b: layouts.Labels) -> Float[Tensor, "*shape"]:
        return a - b.reshape(1, -1)

    with pytest.raises(safeloss.LayoutError, match=r"the body returns \[6, 6\].* says \[6, 1\]"):
        mixing(SCORES, LABELS)


def test_the_count_of_a_mean() -> None:
    def counts(y: Tensor, ignored: int) -> Tensor:
        return y != ignored

    @safeloss.checked(count=counts)
    def nll(
        x: layouts.ClassScores, y: layouts.ClassIndices, ignored: int = 0
    ) -> Float[Tensor, "batch *space"]:
        return F.cross_entropy(x, y, ignore_index=ignored, reduction="none")

    x, y = torch.randn(B, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    expected = F.cross_entropy(x, y, ignore_index=0)
    for _ in range(2):
        torch.testing.assert_close(nll(x, y), expected)
    torch.testing.assert_close(nll(x, y, sample_weight=torch.ones(B)), expected)
    assert nll(x, y * 0, empty="zero") == 0


@pytest.mark.parametrize(
    "count",
    [lambda y, weight: y, lambda *, y: y, lambda *all: all[0]],
    ids=["unknown", "by name", "all"],
)
def test_a_count_of_something_else_is_refused(count: Callable[..., Tensor]) -> None:
    with pytest.raises(TypeError, match=r"wrong: `count` takes '.*'; .* some of x, y"):

        @safeloss.checked(count=count)
        def wrong(x: layouts.Scores, y: layouts.Labels) -> Float[Tensor, "*shape"]:
            return x - y


# Modules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"gama": 2.0}, "`focal` has no parameter 'gama', only logits, labels, gamma"),
        ({"gamma": 3.0}, "the default of `gamma` is 3.0, and 2.0 in `focal`"),
        ({"gamma": 2}, "the default of `gamma` is 2, and 2.0"),
        ({"mask": None}, "`mask` is given with each call"),
    ],
)
def test_fields_are_those_of_the_kernel(body: dict[str, Any], said: str) -> None:
    hints = dict.fromkeys(body, float)
    with pytest.raises(TypeError) as error:
        type(nn.Module)(
            "Wrong", (safeloss.LossModule,), {**body, "__annotations__": hints}, kernel=own.focal
        )
    assert said in str(error.value)


def test_a_module_without_a_kernel() -> None:
    with pytest.raises(TypeError, match=r"class Mine\(safeloss.LossModule, kernel=my_loss\)"):

        class Mine(safeloss.LossModule):
            pass


def test_constructors() -> None:
    assert own.Focal(gamma=3.0).gamma == 3.0
    assert repr(own.Focal(reduction="sum")) == "Focal(gamma=2.0, reduction='sum')"
    assert "gamma" in inspect.signature(own.Focal).parameters
    with pytest.raises(TypeError, match="no option 'gama'"):
        own.Focal(gama=3.0)
    with pytest.raises(safeloss.ArgumentTypeError, match="given to the constructor"):
        own.Focal(SCORES, LABELS)
    loss = own.Focal(gamma=torch.tensor(3.0))
    assert [*loss.state_dict()] == ["gamma"]
    assert torch.equal(loss(SCORES, LABELS), own.Focal(gamma=3.0)(SCORES, LABELS))


def test_subclasses() -> None:
    class Sharp(own.Focal):
        gamma = 4.0

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 2 * super().forward(x, y)

    loss = Sharp()
    assert repr(loss) == "Sharp(gamma=4.0)"
    expected = 2 * own.focal(SCORES, LABELS, 4.0)
    assert torch.equal(loss(SCORES, LABELS), expected)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    assert torch.equal(compiled(SCORES, LABELS), expected)
    assert own.Focal().gamma == 2.0


# Other people's -----------------------------------------------------------------------------------


def theirs(y_hat: Tensor, mask: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    return {"loss": ((y_hat - mask) ** 2).mean() * scale}


class Theirs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, pred: Tensor, true: Tensor) -> tuple[Tensor, int]:
        return ((pred - true) ** 2).mean() * self.scale, 3


wrap = functools.partial(safeloss.wrap, input=layouts.Predictions, target=layouts.Targets)


def test_a_wrapped_function() -> None:
    checked = wrap(theirs)
    expected = theirs(SCORES, LABELS[:, None])["loss"]
    for _ in range(2):
        assert torch.equal(checked(SCORES, LABELS)["loss"], expected)
        assert torch.equal(checked(SCORES, LABELS, 2.0)["loss"], expected * 2)
        assert torch.equal(checked(mask=LABELS, y_hat=SCORES, scale=2.0)["loss"], expected * 2)
    with pytest.raises(safeloss.LayoutError, match=r"theirs: `y_hat` and `mask_?` do not fit"):
        checked(SCORES, LABELS[:3])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        checked(SCORES)
    compiled = torch.compile(checked, fullgraph=True, backend="eager")
    assert torch.equal(compiled(SCORES, LABELS)["loss"], expected)


def test_wrap_is_a_decorator() -> None:
    @safeloss.wrap(input=layouts.Predictions, target=layouts.Targets)
    def loss(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean()

    assert loss.__name__ == "loss"
    assert torch.equal(loss(SCORES, LABELS), (SCORES[:, 0] - LABELS).abs().mean())


def test_a_wrapped_module_is_itself() -> None:
    module = Theirs()
    keys = [*module.state_dict()]
    assert wrap(module) is module
    assert type(module) is Theirs
    assert [*module.state_dict()] == keys
    expected = Theirs()(SCORES, LABELS[:, None])
    for loss in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert loss(SCORES, LABELS) == expected
        assert loss(SCORES, true=LABELS) == expected
        with pytest.raises(safeloss.LayoutError):
            loss(SCORES, LABELS[:3])
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert compiled(SCORES, LABELS) == expected


def test_what_cannot_be_wrapped() -> None:
    with pytest.raises(TypeError, match="takes 2 arguments by position, and there are 3 layouts"):
        wrap(Theirs(), weight=layouts.PerScore)
    with pytest.raises(TypeError, match=r"the hint of `y_hat` is torch\.Tensor"):
        safeloss.wrap(theirs, input=Tensor, target=layouts.Targets)
    with pytest.raises(TypeError, match="give a function or a module"):
        wrap(Theirs)
