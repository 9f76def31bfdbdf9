"""Which element-wise operators repeat their operands by accident, and which on purpose.

In every row all sizes are equal, so that the sizes tell nothing.
"""

import math
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

import safeloss
from safeloss import guard

N = 6
labels = torch.arange(N) % 2
target, other_target = torch.rand(N), torch.rand(N)
column, row = torch.randn(N, 1), torch.randn(N)
points, others = torch.randn(N, 3), torch.randn(N, 3)
features = torch.randn(N, 5)


def found(function, *args) -> list[safeloss.Finding]:
    with guard(on="log", arithmetic=True) as findings:
        function(*args)
    return findings


# On purpose --------------------------------------------------------------------------------------


def positional_encoding():
    position = torch.arange(N).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, 2 * N, 2) * (-math.log(10000.0) / N))
    table = torch.zeros(N, 2 * N)
    table[:, 0::2] = torch.sin(position * div_term)


def positional_encoding_in_floats():
    position = torch.arange(N)[:, None].float()
    rates = 1 / 10000 ** (torch.arange(N).float() / N)
    return torch.cat([(position * rates).sin(), (position * rates).cos()], dim=1)


def rotary(position):
    inverse = 1.0 / (10000 ** (torch.arange(0, N).float() / N))
    return position * inverse


def padding_mask(lengths):
    lengths = lengths.unsqueeze(1)
    steps = torch.arange(N)
    return steps < lengths


def padding_mask_time_first(lengths):
    steps = torch.arange(N).view(-1, 1)
    return steps < lengths


def causal_mask():
    row = torch.arange(N)
    column = row.unsqueeze(1)
    return row <= column


def padded_and_causal(padding):
    padding = padding.unsqueeze(1)
    causal = torch.tril(torch.ones(N, N)).bool()
    return padding & causal


def relative_position():
    query = torch.arange(N).unsqueeze(-1)
    return torch.arange(N) - query


def alibi():
    slopes = torch.tensor([2.0**-head for head in range(N)]).view(N, 1, 1)
    return slopes * torch.arange(N)


def one_hot(labels):
    labels = labels.unsqueeze(1)
    classes = torch.arange(N)
    return (labels == classes).float()


def one_hot_of_what_there_is(labels):
    labels = labels.view(-1, 1)
    return labels == torch.unique(labels + torch.arange(N)[:, None])[:N]


def same_label(labels):
    column = labels.view(-1, 1)
    return column == labels


def triplet_mask(labels):
    column = labels.unsqueeze(1)
    same = column == labels
    return same & ~torch.eye(N, dtype=torch.bool)


def nearest(queries, keys):
    queries = queries.unsqueeze(1)
    return ((queries - keys) ** 2).flatten(2).sum(-1).argmin(1)


def differences(one, other):
    one = one.unsqueeze(1)
    return (one - other).abs()


def differences_by(metric, one, other):
    return metric(one.unsqueeze(1), other)


def as_column(tensor):
    return tensor.unsqueeze(1)


def differences_of_a_column(one, other):
    one = as_column(one)
    return one - other


def kernel_of_columns(one, other):
    return torch.exp(-((one.squeeze(-1)[:, None] - other.squeeze(-1)) ** 2))


def squared_distances(x, y):
    of_x = (x * x).sum(1, keepdim=True)
    of_y = (y * y).sum(1)
    return of_x + of_y - 2 * x @ y.T


def distances(x, y):
    of_x = x.pow(2).sum(-1, keepdim=True)
    of_y = torch.square(y).sum(-1)
    return (of_x + of_y - 2 * x @ y.T).clamp(min=0).sqrt()


def cosines(x, y):
    of_x, of_y = x.norm(dim=1, keepdim=True), y.norm(dim=1)
    return x @ y.T / (of_x * of_y)


def unions(boxes, others):
    area = boxes.prod(1).unsqueeze(1)
    return area + others.prod(1)


def doubly_centred(distances):
    return distances.mean(1, keepdim=True) + distances.mean(0)


def standardised(column, table):
    return (column - table.mean(0)) / table.std(0)


def fourier(times):
    return torch.sin(2 * math.pi * times * torch.linspace(1, N, N))


def fourier_of_a_row(times):
    rates = 2.0 ** torch.arange(N)
    times = times.unsqueeze(-1)
    return times * rates * math.pi


def discounted(rewards):
    discounts = 0.99 ** torch.arange(N)
    rewards = rewards.unsqueeze(1)
    return rewards * discounts


def soft_histogram(scores):
    centres = torch.linspace(0, 1, N)
    return torch.exp(-((scores - centres) ** 2))


def above_thresholds(scores):
    return scores > torch.linspace(0, 1, N)


def mixed_up(x):
    portion = torch.rand(N).view(-1, 1)
    return portion * x + (1 - portion) * x.flip(0)


def smoothed(labels):
    hot = F.one_hot(labels, N).float()
    return hot * 0.9 + 0.1 / N


def gated(x):
    return torch.sigmoid(x[:, :1]) * x


def squeeze_and_excite(x):
    return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


def film(x, scale, shift):
    return scale.unsqueeze(1) * x + shift.unsqueeze(1)


def advantages(rewards, values):
    gathered, result = torch.zeros(()), []
    for step in reversed(range(N - 1)):
        delta = rewards[step] + 0.99 * values[step + 1] - values[step]
        gathered = delta + 0.95 * gathered
        result.append(gathered)
    result = torch.stack(result)
    return (result - result.mean()) / (result.std() + 1e-8)


def similarities(x):
    x = F.normalize(x, dim=1)
    scores = x @ x.T / 0.1
    return scores - scores.max(1, keepdim=True).values


class Layers(nn.Module):
    """What modules hold: parameters, buffers, and tensors that are neither."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 1)
        self.scale = nn.Parameter(torch.randn(N))
        self.slopes = nn.Parameter(torch.randn(N, 1, 1))
        self.rates = torch.randn(N)
        self.register_buffer("support", torch.linspace(-1, 1, N))
        self.register_buffer("book", torch.randn(N, 3))

    def forward(self, x):
        return self.head(x) * self.scale

    def positive(self, x):
        return torch.sigmoid(self.head(x)) * F.softplus(self.scale)

    def biased(self):
        return self.slopes * torch.arange(N)

    def fourier(self, times):
        rates = 2 * math.pi * self.rates
        return times * rates

    def moved_support(self, rewards, ends):
        return rewards + 0.99 * self.support * (1 - ends)

    def coded(self, x):
        x = x.unsqueeze(1)
        return ((x - self.book) ** 2).sum(-1).argmin(1)

    def norms(self, x):
        of_x = x.square().sum(1, keepdim=True)
        return of_x + self.book.square().sum(1)


layers = Layers()
as_points = nn.Linear(5, 3)


def learnt_by_hand():
    rates = torch.randn(N, requires_grad=True)
    return column * rates


def random_fourier(times):
    rates = torch.randn(N) * 10
    return torch.cos(2 * math.pi * times * rates)


def random_fourier_of(rates):
    return lambda times: torch.sin(times * rates)


def jittered(column):
    ticks = torch.arange(N).float()
    ticks = ticks + 0.1 * torch.rand_like(ticks)
    return column * ticks


class Diffusion:
    """Its schedule belongs to no sample; what a step picks of it does."""

    def __init__(self) -> None:
        self.kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, N), 0)

    def noisy(self, x, step):
        noise = torch.randn_like(x)
        share = self.kept[step].view(-1, 1)
        return share.sqrt() * x + (1 - share).sqrt() * noise

    def noisy_by_accident(self, x, step):
        return self.kept[step].sqrt() * x

    def embedded(self, step):
        rates = torch.exp(-torch.arange(N).float())
        return step.float().unsqueeze(-1) * rates


def ordinal(labels):
    return labels.view(-1, 1) > torch.arange(N)


def ages(times):
    return times.unsqueeze(-1) - times


def quantile_regression(x, target):
    levels = torch.linspace(0.1, 0.9, N)
    error = target.unsqueeze(1) - x
    return torch.max(levels * error, (levels - 1) * error)


def distributional(rewards, ends):
    return rewards + 0.99 * (1 - ends) * torch.linspace(-1, 1, N)


def prototypes(x, labels):
    means = torch.stack([x[labels == k].mean(0) for k in (0, 1)] * (N // 2))
    return ((x.unsqueeze(1) - means) ** 2).sum(-1)


def intersections(boxes):
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area[:, None] + area


ON_PURPOSE = [
    # function,                       arguments
    (positional_encoding,             ()),
    (positional_encoding_in_floats,   ()),
    (rotary,                          (column,)),
    (padding_mask,                    (labels,)),
    (padding_mask_time_first,         (labels,)),
    (causal_mask,                     ()),
    (padded_and_causal,               (torch.rand(N, N) > 0.5,)),
    (relative_position,               ()),
    (alibi,                           ()),
    (one_hot,                         (labels,)),
    (one_hot_of_what_there_is,        (labels,)),
    (same_label,                      (labels,)),
    (triplet_mask,                    (labels,)),
    (nearest,                         (points, others)),
    (lambda x: nearest(as_points(x), points), (features,)),
    (lambda x: nearest(points, as_points(x)), (features,)),
    (differences,                     (row, target)),
    (lambda x: differences(layers.head(x)[:, 0], target), (features,)),
    (lambda x: x[:, None] - target,   (row,)),
    (differences_by,                  (torch.sub, row, target)),
    (lambda x: differences_by(lambda a, b: a - b, x, target), (row,)),
    (differences_of_a_column,         (row, target)),
    (kernel_of_columns,               (column, column + 1)),
    (squared_distances,               (points, others)),
    (lambda x: squared_distances(as_points(x), others), (features,)),
    (distances,                       (points, others)),
    (cosines,                         (points, others)),
    (unions,                          (points, others)),
    (doubly_centred,                  (torch.rand(N, N),)),
    (standardised,                    (column, torch.randn(3, N))),
    (fourier,                         (column,)),
    (fourier_of_a_row,                (row,)),
    (discounted,                      (row,)),
    (soft_histogram,                  (column,)),
    (lambda x: above_thresholds(layers.head(x)), (features,)),
    (mixed_up,                        (torch.randn(N, N),)),
    (smoothed,                        (labels,)),
    (gated,                           (torch.randn(N, N),)),
    (squeeze_and_excite,              (torch.randn(N, N, N, N),)),
    (film,                            (torch.randn(N, N, N), torch.randn(N, N), torch.randn(N, N))),
    (advantages,                      (row, target)),
    (similarities,                    (points,)),
    (layers,                          (features,)),
    (layers.positive,                 (features,)),
    (layers.biased,                   ()),
    (layers.fourier,                  (column,)),
    (layers.moved_support,            (column, column)),
    (layers.coded,                    (points,)),
    (layers.norms,                    (points,)),
    (learnt_by_hand,                  ()),
    (random_fourier,                  (column,)),
    (lambda: random_fourier_of(torch.randn(N))(column), ()),
    (jittered,                        (column,)),
    (lambda x, step: Diffusion().noisy(x, step), (column, labels)),
    (lambda step: Diffusion().embedded(step), (labels,)),
    (ordinal,                         (labels,)),
    (ages,                            (row,)),
    (lambda x, y: quantile_regression(layers.head(x), y), (features, target)),
    (distributional,                  (column, column)),
    (lambda x: prototypes(as_points(x), labels), (features,)),
    (intersections,                   (torch.rand(N, 4),)),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args"), ON_PURPOSE)
@pytest.mark.parametrize("grad", [True, False])
def test_what_repeats_on_purpose_is_left_alone(function, args, grad) -> None:
    with torch.set_grad_enabled(grad):
        assert found(function, *args) == []


# By accident -------------------------------------------------------------------------------------

head = nn.Linear(5, 1)
q_values = nn.Linear(5, 3)
weights = torch.rand(N)


def squared(scores, target):
    return ((scores - target) ** 2).mean()


def cross_entropy(scores, target):
    p = torch.sigmoid(scores)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


def huber(scores, target):
    error = torch.abs(scores - target)
    return torch.where(error < 1, 0.5 * error**2, error - 0.5).mean()


def focal(scores, target):
    p = torch.sigmoid(scores)
    right = torch.where(target == 1, p, 1 - p)
    return (-((1 - right) ** 2) * right.log()).mean()


def dice(scores, target):
    p = scores.sigmoid()
    return 1 - 2 * (p * target).sum() / (p.sum() + target.sum())


def siamese(a, b, label):
    distance = F.pairwise_distance(a, b, keepdim=True)
    same = (1 - label) * torch.pow(distance, 2)
    other = label * torch.pow(torch.clamp(2.0 - distance, min=0.0), 2)
    return torch.mean(same + other)


def siamese_by_norms(a, b, label):
    distance = torch.norm(a - b, dim=1, keepdim=True)
    return (label * distance + (1 - label) * F.relu(1 - distance)).mean()


def siamese_by_squares(a, b, label):
    distance = (a - b).pow(2).sum(1, keepdim=True).sqrt()
    return (label * distance**2).mean()


def triplet(anchor, positive, negative):
    near = (anchor - positive).pow(2).sum(1, keepdim=True)
    far = (anchor - negative).pow(2).sum(1)
    return F.relu(near - far + 1).mean()


def two_statements_on_a_line(pred, target):
    # fmt: off
    e = target - pred[:, 0]; s = pred.unsqueeze(1)  # noqa: E702
    # fmt: on
    return e.abs().mean() + 0 * s.sum()


def one_statement_for_both(pred, target):
    return (target - pred[:, 0]).abs().mean() + 0 * pred[:, None].sum()


def labels_in_a_column(x, target):
    target = target.view(-1, 1)
    scores = head(x).squeeze(-1)
    return ((scores - target) ** 2).mean()


def labels_in_a_column_for_products(x, target):
    weight = torch.randn(5, requires_grad=True)
    target = target.unsqueeze(1)
    scores = x @ weight
    return ((scores - target) ** 2).mean()


def labels_in_a_column_in_place(x, target):
    target = target.clone().unsqueeze_(1)
    return ((head(x)[:, 0] - target) ** 2).mean()


def labels_of_a_loader(x, target):
    def collate(rows):
        inputs, targets = zip(*rows)
        return torch.stack(inputs), torch.stack(targets).unsqueeze(1)

    rows = [*zip(x, target)]
    for inputs, targets in DataLoader(rows, batch_size=N, collate_fn=collate):
        ((head(inputs).squeeze() - targets) ** 2).mean()


def labels_at_the_call(x, target):
    return squared(head(x)[:, 0], target.unsqueeze(1))


class Column(nn.Module):
    """A head that ends in a column by its own hand."""

    def forward(self, x):
        return head(x)[:, 0].unsqueeze(1)


def critic(x, returns):
    return 0.5 * (returns - head(x)).pow(2).mean()


def deep_q(x, rewards):
    actions = torch.zeros(N, dtype=torch.long)
    values = q_values(x).gather(1, actions.unsqueeze(1))
    aims = rewards + 0.99 * q_values(x).max(1)[0].detach()
    return (values - aims).pow(2).mean()


def deep_q_that_kept(x, rewards):
    best = q_values(x).max(1, keepdim=True)[0]
    return rewards + 0.99 * best


def policy(x, returns):
    chosen = torch.distributions.Categorical(logits=q_values(x))
    advantage = returns[:, None] - head(x).detach()
    return -(chosen.log_prob(labels) * advantage).mean()


def soft_actor(x):
    log_prob = (q_values(x) - 1).sum(-1, keepdim=True)
    least = torch.min(head(x).squeeze(-1), head(x).squeeze(-1))
    return (0.2 * log_prob - least).mean()


def evidence_bound(x):
    mean = as_points(x)
    divergence = (mean.exp() - 1 - mean).sum(1, keepdim=True)
    return ((mean - 1) ** 2).sum(1) + divergence


def per_token(losses, mask):
    return losses.sum(1) / mask.sum(1, keepdim=True)


def weighted(x, target):
    return (weights * F.mse_loss(head(x), target[:, None], reduction="none")).mean()


def weighted_by_class(x):
    share = torch.tensor([0.25, 0.75])[labels.view(-1, 1)]
    return (share * torch.sigmoid(head(x)[:, 0])).mean()


def uncertain(x, target):
    log_variance = head(x)
    error = (head(x)[:, 0] - target) ** 2
    return (torch.exp(-log_variance) * error + log_variance).mean()


def accuracy(x, target):
    with torch.no_grad():
        guess = (head(x) > 0).float()
    return (guess == target).float().mean()


def accuracy_of_classes(x, target):
    guess = q_values(x).argmax(dim=1, keepdim=True)
    return guess.eq(target).sum()


def accuracy_of_the_best(x, target):
    _, guess = q_values(x).topk(1, 1)
    return (guess == target).sum()


def larger(x, target):
    return torch.max(head(x), target)


def noisy_scores(x):
    return head(x) + torch.randn(N)


def noisy_inputs(column):
    return column + 0.1 * torch.randn(N)


def noise_like_the_target(x, target):
    return head(x) + torch.randn_like(target)


def dropped(column, target):
    return torch.bernoulli(torch.full_like(column, 0.9)) * target


def mixed_by_one_share_each(x):
    share = torch.rand(N)
    return share * head(x)


def between(real, fake):
    share = torch.rand(N)
    return share * real + (1 - share) * fake


def survival(x, times):
    risk = head(x)
    return ((risk - risk.logcumsumexp(0)) * times).sum()


def adversarial(x):
    return F.softplus(-head(x) * torch.ones(N)).mean()


elsewhere = types.ModuleType("elsewhere")
exec("def squared(pred, true):\n    return (pred - true) ** 2\n", vars(elsewhere))

images, masks = torch.randn(N, 1, 4, 4), torch.randint(2, (N, 4, 4)).float()

BY_ACCIDENT = [
    # function,                         arguments,              operator
    *((loss, (column, target),          operator)
      for loss, operator in ((squared, "sub"), (cross_entropy, "mul"), (huber, "sub"),
                             (focal, "where"), (dice, "mul"))),
    *((lambda x, y, loss=loss: loss(head(x), y), (features, target), operator)
      for loss, operator in ((squared, "sub"), (cross_entropy, "mul"), (huber, "sub"),
                             (focal, "where"), (dice, "mul"))),
    (lambda x, y: squared(x[:, 0], y),  (column, target[:, None].clone()), "sub"),
    (dice,                              (images, masks),        "mul"),
    (siamese,                           (points, others, target), "mul"),
    (siamese_by_norms,                  (points, others, target), "mul"),
    (siamese_by_squares,                (points, others, target), "mul"),
    (lambda x, y: siamese(as_points(x), points, y), (features, target), "mul"),
    (triplet,                           (points, others, -points), "sub"),
    (two_statements_on_a_line,          (torch.randn(N, 3), column), "sub"),
    (one_statement_for_both,            (torch.randn(N, 3), column), "sub"),
    (labels_in_a_column,                (features, target),     "sub"),
    (labels_in_a_column_for_products,   (features, target),     "sub"),
    (labels_in_a_column_in_place,       (features, target),     "sub"),
    (labels_of_a_loader,                (features, target),     "sub"),
    (labels_at_the_call,                (features, target),     "sub"),
    (lambda x, y: squared(Column()(x), y), (features, target),  "sub"),
    (critic,                            (features, target),     "sub"),
    (deep_q,                            (features, target),     "sub"),
    (deep_q_that_kept,                  (features, target),     "add"),
    (policy,                            (features, target),     "mul"),
    (soft_actor,                        (features,),            "sub"),
    (evidence_bound,                    (features,),            "add"),
    (per_token,                         (torch.rand(N, N), torch.ones(N, N)), "div"),
    (weighted,                          (features, target),     "mul"),
    (weighted_by_class,                 (features,),            "mul"),
    (uncertain,                         (features, target),     "mul"),
    (accuracy,                          (features, target),     "eq"),
    (accuracy_of_classes,               (features, labels),     "eq"),
    (accuracy_of_the_best,              (features, labels),     "eq"),
    (larger,                            (features, target),     "max"),
    (noisy_scores,                      (features,),            "add"),
    (noisy_inputs,                      (column,),              "add"),
    (noise_like_the_target,             (features, target),     "add"),
    (dropped,                           (column, target),       "mul"),
    (mixed_by_one_share_each,           (features,),            "mul"),
    (between,                           (column, column + 1),   "mul"),
    (survival,                          (features, target),     "mul"),
    (adversarial,                       (features,),            "mul"),
    (lambda x, step: Diffusion().noisy_by_accident(x, step), (column, labels), "mul"),
    (elsewhere.squared,                 (column, target),       "sub"),
    (lambda y: squared(torch.randn(N, 1, requires_grad=True), y), (target,), "sub"),
    (lambda y: squared(torch.randn(N, 1, requires_grad=True).exp(), y), (target,), "sub"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "operator"), BY_ACCIDENT)
def test_what_repeats_by_accident_is_found(function, args, operator) -> None:
    first = found(function, *args)[0]
    assert operator in (first.loss, first.loss.removeprefix("r"), first.loss[:-1])
    large, small = first.shapes
    view, align = first.error.fixes
    assert view.startswith(f"{small}.unsqueeze(")
    assert align == f"safeloss.align({small}, like={large})"
    for fix in (view, align):
        tensors = {name: torch.zeros(shape) for name, shape in first.shapes.items()}
        assert eval(fix, {"safeloss": safeloss, **tensors}).shape == first.shapes[large]
    assert first.source or first.file == "<string>"


@pytest.mark.parametrize("function", [accuracy, accuracy_of_classes, accuracy_of_the_best, policy])
def test_accidents_of_an_evaluation_are_found(function) -> None:
    with torch.no_grad():
        assert found(function, features, labels)


@pytest.mark.parametrize(("function", "args", "operator"), BY_ACCIDENT)
def test_nothing_is_repeated_in_a_batch_of_one(function, args, operator, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "N", 1)
    monkeypatch.setattr(sys.modules[__name__], "labels", labels[:1])
    monkeypatch.setattr(sys.modules[__name__], "weights", weights[:1])
    assert found(function, *[value[:1] for value in args]) == []


def test_what_is_said_of_an_axis() -> None:
    (finding, *_) = found(siamese, points, others, target)
    assert "`keepdim=True` has left" in str(finding)
    (finding,) = found(labels_in_a_column, features, target)
    line = labels_in_a_column.__code__.co_firstlineno + 1
    assert f"test_arithmetic.py:{line}. " in finding.error.advice


def test_other_sizes_at_the_same_place_show_that_all_meet_all() -> None:
    def scaled(rows: Tensor, rates: Tensor) -> Tensor:
        return rows * rates

    with guard(on="log", arithmetic=True) as findings:
        scaled(column, row)
        assert len(findings) == 1, "it cannot be known yet"
        scaled(column[:-1], row)
        assert findings == []
        scaled(column, row)
    assert findings == []


def test_what_the_guard_follows_is_not_kept_alive() -> None:
    with guard(arithmetic=True) as findings:
        watch = safeloss._torch.active_modes()[-1]
        for _ in range(3):
            torch.arange(N).unsqueeze(1).float().exp()
        assert findings == []
        assert watch.origins.known == {}


FOLLOWED = [
    lambda: torch.pow(2, row),
    lambda: torch.zeros(N).flatten(),
    lambda: nn.LazyLinear(3).to("cpu").double(),
    lambda: torch.nested.nested_tensor([row, row]).float() * 2,
    lambda: torch.max(torch.randn(3, 4), 1),
    lambda: torch.max(torch.randn(3)),
    lambda: torch.func.vmap(lambda x: x.unsqueeze(0) * 2)(points),
    lambda: torch.arange(3.0, device="meta").unsqueeze(1) * torch.zeros(3, device="meta"),
    lambda: torch.sum(input=points, dim=(0, 1), keepdim=True),
    lambda: points.norm("fro", 1),
    lambda: points.std(0, keepdim=True),
    lambda: points[..., None, :1],
    lambda: points.type(),
    lambda: torch.add(row, 1, out=torch.zeros(N)),
    lambda: torch.jit.trace(lambda x: x.unsqueeze(1) * 2, (row,))(row),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("program", FOLLOWED)
def test_programs_run_as_ever(program) -> None:
    program()
    assert found(program) == []
