"""Scores that went through an activation already, told by their graph or by the numbers."""

import gc
import itertools
import warnings
import weakref
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lines import new_line
from torch import nn, tensor
from torch.nn.utils import parametrize

import safeloss
from safeloss import SuspiciousInputWarning
from safeloss import functional as SF
from safeloss._contract.activations import Origin, origin

BCE, CE, NLL = safeloss.SafeBCEWithLogitsLoss, safeloss.SafeCrossEntropyLoss, safeloss.SafeNLLLoss
ML, SOFT = safeloss.MultiLabelBCE, safeloss.SafeMultiLabelSoftMarginLoss


def said(call, *inputs):
    """What a call warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        new_line()(call, *inputs)
    return [str(w.message) for w in caught if issubclass(w.category, SuspiciousInputWarning)]


def target_of(loss, x):
    """A target that fits."""
    if isinstance(loss, (CE, NLL, safeloss.SafeMultiMarginLoss)):
        return x.argmax(-1 if getattr(loss, "class_dim", 1) == -1 else 1)
    return torch.ones_like(x)


WRONG = [
    # the loss,        what comes before it,                          words of the warning
    (BCE, lambda x: x.sigmoid(), "is the output of a sigmoid, but this loss applies the sigmoid"),
    (
        BCE,
        lambda x: F.hardsigmoid(x),
        "Remove the sigmoid in the model's forward and pass the raw scores",
    ),
    (BCE, lambda x: F.logsigmoid(x), "is the output of a log-sigmoid"),
    (BCE, lambda x: x.sigmoid().log(), "is the output of a log-sigmoid"),
    (BCE, lambda x: x.softmax(1), "is the output of a softmax, but this loss applies a sigmoid"),
    (BCE, lambda x: x.softmax(1)[:, 1], "is the output of a softmax"),
    (BCE, lambda x: x.log_softmax(1), "is the output of a log-softmax"),
    (ML, lambda x: x.sigmoid(), "sigmoid itself"),
    (ML, lambda x: x.softmax(-1), "is the output of a softmax over the classes"),
    (SOFT, lambda x: x.sigmoid(), "sigmoid itself"),
    (safeloss.SafeSoftMarginLoss, lambda x: x.sigmoid(), "sigmoid itself"),
    (CE, lambda x: x.softmax(1), "a softmax over the classes, but this loss applies the softmax"),
    (CE, lambda x: x.softmax(0), "a softmax over axis 0, which does not hold the classes"),
    (CE, lambda x: x.sigmoid(), "is the output of a sigmoid, but this loss applies a softmax"),
    (CE, lambda x: x.log_softmax(0), "a log-softmax over axis 0"),
    (
        partial(CE, class_dim=-1),
        lambda x: x[..., None].mT.softmax(-1),
        "a softmax over the classes",
    ),
    (partial(CE, class_dim=-1), lambda x: x[..., None].mT.softmax(1), "a softmax over axis 1"),
    (NLL, lambda x: x.log_softmax(0), "a log-softmax over axis 0"),
    (NLL, lambda x: x.softmax(0).log(), "a log-softmax over axis 0"),
]


@pytest.mark.parametrize("samples", [1, 2, 64])
@pytest.mark.parametrize(("loss", "activation", "words"), WRONG)
def test_an_activation_too_many_is_seen_at_every_size(loss, activation, words, samples) -> None:
    x = activation(torch.randn(samples, 4, requires_grad=True))
    (text,) = said(loss(), x, target_of(loss(), x))
    assert words in text


RIGHT = [
    (BCE, lambda x: x),
    (BCE, lambda x: x.sigmoid().logit()),
    (BCE, lambda x: 4 * x.sigmoid() - 2),
    (BCE, lambda x: x.tanh()),
    (BCE, lambda x: x.clamp(0, 1)),
    (BCE, lambda x: x.relu()),
    (BCE, lambda x: nn.Linear(4, 4)(x.sigmoid())),
    (BCE, lambda x: x.sigmoid().mean(1)),
    (CE, lambda x: x.log_softmax(1)),
    (CE, lambda x: x.softmax(1).clamp(min=1e-7).log()),
    (CE, lambda x: x.softmax(1) * 10),
    (CE, lambda x: F.normalize(x) @ F.normalize(x).T),
    (NLL, lambda x: x.log_softmax(1)),
    (NLL, lambda x: x.softmax(1).clamp(1e-7, 1).log()),
    (NLL, lambda x: x.T.log_softmax(0).T),
    (NLL, lambda x: x.view(2, -1, 4).log_softmax(-1).view(-1, 4)),
    (NLL, lambda x: x.view(4, 4, 2).log_softmax(1)),
    (partial(NLL, class_dim=-1), lambda x: x.view(2, -1, 4).log_softmax(2)),
    (NLL, lambda x: x[:6].view(2, 3, 4).log_softmax(-1).movedim(-1, 1)),
    (safeloss.SafeMSELoss, lambda x: x.sigmoid()),
    (safeloss.SafeBCELoss, lambda x: x.sigmoid()),
    (safeloss.SafeMultiMarginLoss, lambda x: x.softmax(1)),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("loss", "activation"), RIGHT)
def test_what_is_right_is_not_suspected(loss, activation, seed) -> None:
    torch.manual_seed(seed)
    x = activation(torch.randn(8, 4, requires_grad=True))
    assert not said(loss(), x, target_of(loss(), x))


VIEWS = [
    # after a log-softmax over axis 1 of [6, 4, 3],     where it is then; None: it cannot be told
    (lambda x: x, 1),
    (lambda x: x.clone().contiguous()[...], 1),
    (lambda x: x.double().bfloat16(), 1),
    (lambda x: x.clamp(min=-100).clamp_max(0).clamp_min(-9), 1),
    (lambda x: x.clamp(torch.tensor(-9.0), torch.tensor(0.0)), 1),
    (lambda x: x.transpose(1, 2), 2),
    (lambda x: x.transpose(-1, -2), 2),
    (lambda x: x.movedim(1, -1).contiguous(), 2),
    (lambda x: x.permute(-1, 0, -2), 2),
    (lambda x: x.mT.reshape(-1, 4), 1),
    (lambda x: x.mT.flatten(0, 1), 1),
    (lambda x: x.unsqueeze(0), 2),
    (lambda x: x.unsqueeze(-1).unsqueeze(1), 2),
    (lambda x: x[..., None].squeeze(-1), 1),
    (lambda x: x[:1].squeeze(), 0),
    (lambda x: x[:, :, :1].squeeze((0, 2)), 1),
    (lambda x: x[0], 0),
    (lambda x: x[..., 0], 1),
    (lambda x: x[..., 0].t(), 0),
    (lambda x: x[..., 0].T, 0),
    (lambda x: x[1:, :, ::2], 1),
    (lambda x: x[:1].expand(5, -1, -1), 1),
    (lambda x: x.expand(2, 6, 4, 3), 2),
    (lambda x: x.chunk(2)[1], 1),
    (lambda x: x.split([1, 5])[1], 1),
    (lambda x: x.index_select(0, torch.tensor([3, 1])), 1),
    (lambda x: x.narrow(0, 1, 2), 1),
    (lambda x: x.unflatten(0, (2, 3)), 2),
    (lambda x: x.flatten(1), None),
    (lambda x: x.view(4, 6, 3), None),
    (lambda x: x.unbind(0)[0], None),
    (lambda x: x[torch.tensor([0, 2])], None),
]


@pytest.mark.parametrize(("view", "axis"), VIEWS)
def test_the_classes_are_followed_through_views(view, axis) -> None:
    x = view(torch.randn(6, 4, 3, requires_grad=True).log_softmax(1))
    for classes in range(x.dim()):
        found = origin(x, classes)
        assert found.activation == "log-softmax"
        # Of an axis that was merged or made nothing is said; of one that was followed, the truth.
        assert found.over_classes in (None, classes == axis)
        assert found.over_classes or classes != axis


@pytest.mark.parametrize("first", range(len(VIEWS)))
def test_the_classes_are_followed_through_views_of_views(first) -> None:
    """A mark for each class goes the same way: the axes along which it differs hold classes."""
    scores = torch.randn(6, 4, 3, requires_grad=True).log_softmax(1)
    marks = (torch.arange(4.0) - 8).view(1, 4, 1).expand(6, 4, 3)
    told = 0
    for second, _ in VIEWS:
        try:
            x, marked = (second(VIEWS[first][0](tensor)) for tensor in (scores, marks))
        except (RuntimeError, IndexError, UserWarning):
            continue  # the second view is for another number of axes
        for axis in range(x.dim() if x.numel() else 0):
            found = origin(x, axis)
            assert found.activation == "log-softmax"
            if x.shape[axis] > 1:  # else a single class may be left
                assert found.over_classes in (None, bool(marked.diff(dim=axis).any()))
            told += found.over_classes is not None
    assert told or VIEWS[first][1] is None


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
def test_the_axis_of_a_softmax_may_be_counted_from_the_end(shape) -> None:
    x, rank = torch.randn(shape, requires_grad=True), max(len(shape), 1)
    for axis in range(-rank, rank):
        assert origin(x.softmax(axis), axis % rank) == Origin(True, "softmax", axis % rank, True)


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


HIDDEN = [
    lambda x: Same.apply(x.sigmoid()),
    lambda x: torch.cat([x.sigmoid(), x.sigmoid()]),
    lambda x: x.sigmoid().detach(),
    lambda x: x.detach().sigmoid().requires_grad_(),
]


@pytest.mark.parametrize("hide", HIDDEN)
def test_what_hides_the_graph_is_given_up(hide) -> None:
    assert not origin(hide(torch.randn(3, 2, requires_grad=True)), None).known


def test_a_long_way_back_is_given_up() -> None:
    x = torch.randn(3, requires_grad=True).sigmoid()
    for _ in range(100):
        x = x.view(3)
    assert origin(x, None) == Origin(known=False)


def test_a_graph_that_was_freed_is_told_all_the_same() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    scores = x.softmax(1).mT.contiguous().view(4, 3, 1)[..., 0].clamp(0, 1).T
    scores.sum().backward()
    assert origin(scores, 1) == Origin(True, "softmax", 1, True)


def test_no_hook_runs_and_nothing_is_kept() -> None:
    ran = []

    def unpack(saved):
        ran.append(saved)
        return saved

    x = torch.randn(8, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, unpack):
        scores = x.softmax(1)[torch.arange(8)].clamp(0, 1)
        scores.register_hook(ran.append)
        origin(scores, 1)
    assert not ran
    kept = weakref.ref(scores)
    del scores
    gc.collect()
    assert kept() is None


def test_a_base_changed_in_place_under_no_grad() -> None:
    base = torch.zeros(4, 4)
    with torch.no_grad():
        view = base[:2]
    base.mul_(torch.ones(1, requires_grad=True))
    assert not origin(view, None).known


MODELS = [
    nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()),
    nn.Sequential(nn.Linear(4, 1), nn.Sequential(nn.Sigmoid(), nn.Flatten(0), nn.Identity())),
    nn.Sequential(nn.Conv1d(4, 1, 1), nn.Sigmoid(), nn.Flatten(0)),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("samples", [1, 8])
def test_a_model_that_ends_in_a_sigmoid(model, samples) -> None:
    x = torch.randn(samples, 4, 1) if isinstance(model[0], nn.Conv1d) else torch.randn(samples, 4)
    (text,) = said(BCE(), model(x), torch.ones(samples))
    assert "Remove the sigmoid in the model's forward and pass the raw scores" in text
    with torch.autocast("cpu", torch.bfloat16):
        assert said(BCE(), model(x).float(), torch.ones(samples))
    assert not said(BCE(check_values="never"), model(x), torch.ones(samples))


def test_a_parametrized_model_is_a_model() -> None:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", nn.Softmax(1))
    assert not said(CE(), layer(torch.randn(8, 4)), torch.zeros(8).long())


def fresh(seed, outputs):
    """Untrained models of many kinds, with inputs for them."""
    torch.manual_seed(seed)
    activation = (nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid)[seed % 4]
    norm = (nn.Identity, lambda: nn.BatchNorm1d(32), lambda: nn.LayerNorm(32))[seed % 3]
    deviation = (None, 0.01, 0.1, 1.0, 5.0)[seed % 5]
    head, top = nn.Linear(32, outputs), nn.Linear(8, outputs)
    if deviation is not None:
        nn.init.normal_(head.weight, std=deviation)
        nn.init.normal_(top.weight, std=deviation)
    yield (
        nn.Sequential(nn.Linear(20, 32), norm(), activation(), nn.Linear(32, 32), nn.ReLU(), head),
        torch.randn(256, 20),
    )
    pool = nn.AdaptiveAvgPool2d(1)
    yield (
        nn.Sequential(nn.Conv2d(3, 8, 3), activation(), pool, nn.Flatten(), top),
        torch.rand(256, 3, 6, 6),
    )


# Every activation with every norm and every deviation is in 60 seeds.
SEEDS = [range(60), pytest.param(range(60, 200), marks=pytest.mark.nightly)]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [nn.Identity(), nn.ReLU(), nn.Softplus()], ids=str)
@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("seeds", SEEDS, ids=str)
def test_no_fresh_model_is_suspected(seeds, outputs, ending) -> None:
    losses = [BCE, ML, CE] if outputs > 1 else [BCE]
    suspected = 0
    for seed in seeds:
        for model, x in fresh(seed, outputs):
            scores = ending(model(x))
            for samples in (1, 2, 16, 256):
                for loss in losses:
                    some = scores[:samples]
                    target = some.argmax(1) if loss is CE else (some > 0.1).float()
                    suspected += len(said(loss(), some, target))
                    suspected += len(said(loss(), some.detach(), target))
    assert suspected == 0


def trained(ending, loss, outputs):
    x = torch.randn(512, 10)
    scores = x @ torch.randn(10, outputs)
    y = scores.argmax(1) if isinstance(loss, nn.CrossEntropyLoss) else (scores > 0).float()
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, outputs), ending)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(10):
        for i in range(0, 512, 32):
            optimizer.zero_grad()
            loss(model(x[i : i + 32]), y[i : i + 32]).backward()
            optimizer.step()
    with torch.no_grad():
        return model(x[:64])


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), nn.BCELoss()])
@pytest.mark.parametrize("outputs", [1, 5])
def test_a_trained_sigmoid_is_seen_without_a_graph(loss, outputs) -> None:
    scores = trained(nn.Sigmoid(), loss, outputs)
    (text,) = said(BCE(), scores, torch.ones_like(scores))
    assert "as after a sigmoid" in text
    assert not said(BCE(), scores.logit(eps=1e-6), torch.ones_like(scores))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_softmax_is_seen_without_a_graph(dtype) -> None:
    scores = torch.randn(2, 5).softmax(1).to(dtype)
    assert "as after a softmax" in said(CE(), scores, tensor([0, 1]))[0]
    assert "as after a softmax" in said(ML(), scores, torch.ones(2, 5))[0]
    assert "as after a softmax" in said(CE(class_dim=-1), scores[None], tensor([[0, 1]]))[0]
    assert not said(CE(), scores[:1], tensor([0]))  # one row may sum to 1 by chance
    assert not said(CE(), torch.full((2, 5), 0.2), tensor([0, 1]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probabilities_over_another_axis_without_a_graph(dtype) -> None:
    x = torch.randn(6, 4)
    for right in (x.log_softmax(1), x[:1].log_softmax(1), x.log_softmax(1) - 1):
        assert not said(NLL(), right.to(dtype), x[: len(right)].argmax(1))
    (text,) = said(NLL(), x.log_softmax(0).to(dtype), x.argmax(1))
    assert "normalised over another axis" in text


SEQUENCE = (tensor([[1, 2, 3]] * 2), tensor([8, 8]), tensor([3, 3]))


@pytest.mark.parametrize("axis", [0, 1])
def test_sequences_normalised_over_another_axis(axis) -> None:
    x = torch.randn(8, 2, 4, requires_grad=True).log_softmax(axis)
    (text,) = said(safeloss.SafeCTCLoss(), x, *SEQUENCE)
    assert f"over axis {axis}, which does not hold the classes" in text
    assert said(safeloss.SafeCTCLoss(), x.detach(), *SEQUENCE)
    assert not said(safeloss.SafeCTCLoss(), x.log_softmax(2), *SEQUENCE)


KL = partial(safeloss.SafeKLDivLoss, reduction="sum")


@pytest.mark.parametrize("shape", [(6, 4), (4, 4), (1, 4), (2, 3, 4), (3, 3, 3)])
@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize("graph", [False, True])
def test_the_target_tells_the_axis_where_a_loss_has_none(shape, logged, graph) -> None:
    """Any axis may hold the classes: that of the input must be that of the target."""
    x = torch.randn(shape, requires_grad=graph)
    for right, wrong in itertools.permutations(range(len(shape)), 2):
        if shape[right] == 1:
            continue
        target = torch.randn(shape).softmax(right)
        target = target.log() if logged else target
        loss = KL(log_target=logged)
        assert not said(loss, x.log_softmax(right), target)
        loss = KL(log_target=logged)
        texts = said(loss, x.log_softmax(wrong), target)
        assert len(texts) == (graph or shape[wrong] > 1)  # else nothing but zeros, without a past
        assert all("sums to 1" in text for text in texts)


@pytest.mark.parametrize("graph", [False, True])
def test_a_target_that_sums_to_1_over_several_axes_or_none_tells_nothing(graph) -> None:
    x = torch.randn(4, 4, requires_grad=graph).log_softmax(0)
    for target in (torch.eye(4), torch.rand(4, 4), torch.full((4, 4), 0.25), torch.zeros(4, 4)):
        assert not said(KL(), x, target)
    maps = torch.randn(3, 16).softmax(1).view(3, 4, 4)  # each is one distribution
    scores = torch.randn(3, 16, requires_grad=graph).log_softmax(1).view(3, 4, 4)
    assert not said(KL(), scores, maps)


def test_the_look_is_not_taken_inside_a_transform() -> None:
    x, y = torch.randn(16), torch.ones(16)
    assert not said(torch.func.grad(lambda x: BCE()(x.sigmoid(), y)), x)


def test_a_tiny_softmax_is_no_logarithm_up_to_rounding() -> None:
    """Of a thousand classes each has a probability that is as small as an error of rounding."""
    x = torch.randn(8, 1000).mul(0.01).softmax(1)
    assert x.max() < 2 * torch.finfo(torch.bfloat16).eps
    with pytest.raises(safeloss.ValueRangeError, match="log-probabilities"):
        SF.nll_loss(x, torch.zeros(8).long(), check_values="always")


class Head(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.linear, self.activation = nn.Linear(4, 3), activation

    def forward(self, x):
        scores = self.linear(x)
        return self.activation(scores)[:, :]  # the line that is named


@pytest.mark.parametrize("activation", [nn.Softmax(1), partial(F.softmax, dim=1), torch.sigmoid])
def test_a_trace_names_the_line_of_the_activation(activation) -> None:
    head, x = Head(activation), torch.randn(8, 4)
    (text,) = said(CE(), head(x), torch.zeros(8).long())
    assert "in the model's forward and pass the raw scores (logits)." in text
    with safeloss.trace():
        scores = head(x)
        (text,) = said(CE(), scores, torch.zeros(8).long())
    assert f"test_activations.py:{LINE} (`return self.activation(scores)[:, :]" in text


LINE = Head.forward.__code__.co_firstlineno + 2


def test_a_trace_names_no_line_of_another_activation() -> None:
    """The one before the last layer is as it should be; the last was not seen by the trace."""
    x = torch.randn(8, 4, requires_grad=True)
    with safeloss.trace():
        hidden = nn.Linear(4, 3)(x.sigmoid())
    scores = hidden.softmax(1)
    with safeloss.trace():
        (text,) = said(CE(), scores, torch.zeros(8).long())
    assert "in the model's forward" in text
