"""Losses as people write them: an audit accuses no healthy one, and misses no broken one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safeloss import audit

B, C, D, H = 8, 3, 16, 4
ALPHA = torch.tensor([0.25, 0.75, 1.0])


def scores(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def chances(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def labels(*shape: int, of: int = 2) -> Tensor:
    return torch.randint(of, shape, generator=torch.Generator().manual_seed(3))


def yes_no(*shape: int) -> Tensor:
    return labels(*shape).float()


def squared(x: Tensor, t: Tensor) -> Tensor:
    return ((x - t) ** 2).mean()


def siamese(a: Tensor, b: Tensor, label: Tensor, keepdim: bool = False) -> Tensor:
    distance = F.pairwise_distance(a, b, keepdim=keepdim)
    same = (1 - label) * distance**2
    return (same + label * (2 - distance).clamp(min=0) ** 2).mean()


def siamese_with_kept_axis(a: Tensor, b: Tensor, label: Tensor) -> Tensor:
    return siamese(a, b, label, keepdim=True)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return F.triplet_margin_loss(anchor, positive, negative, margin=5)


def triplet_with_kept_axis(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    near = F.pairwise_distance(anchor, positive, keepdim=True)
    return F.softplus(near - F.pairwise_distance(anchor, negative)).mean()


def root_of_siamese(a: Tensor, b: Tensor, label: Tensor) -> Tensor:
    return siamese(a, b, label, keepdim=True).sqrt()


def masked(x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    return ((x - t) ** 2 * mask).sum() / mask.sum()


def policy_gradient(x: Tensor, before: Tensor, advantage: Tensor) -> Tensor:
    ratio = (x - before).exp()
    return -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()


def distill(x: Tensor, teacher: Tensor, t: Tensor) -> Tensor:
    soft = F.kl_div(x.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    return soft + F.cross_entropy(x, t)


def weighted(x: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    return (weight * F.cross_entropy(x, t, reduction="none")).sum() / weight.sum()


def weighted_errors(x: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    return (weight * (x - t) ** 2).mean()


def focal(x: Tensor, t: Tensor) -> Tensor:
    p = x.softmax(1).gather(1, t[:, None]).squeeze(1)
    return (-ALPHA[t] * (1 - p) ** 2 * p.log()).mean()


def focal_by_positives(x: Tensor, t: Tensor) -> Tensor:
    each = F.binary_cross_entropy_with_logits(x, t, reduction="none")
    return (each * (1 - (-each).exp()) ** 2).sum() / t.sum().clamp(min=1)


def focal_alpha_column(x: Tensor, t: Tensor) -> Tensor:
    each = F.cross_entropy(x, t, reduction="none")
    return (ALPHA.gather(0, t)[:, None] * each).mean()


def focal_pt_column(x: Tensor, t: Tensor) -> Tensor:
    p = x.softmax(1).gather(1, t.view(-1, 1))
    return ((1 - p) ** 2 * F.cross_entropy(x, t, reduction="none")).mean()


def focal_detached_column(x: Tensor, t: Tensor) -> Tensor:
    each = F.cross_entropy(x, t, reduction="none")
    weight = ALPHA[t].unsqueeze(1) * (1 - (-each.detach()).exp()) ** 2
    return (weight * each).sum() / len(x)


def weight_by_where(x: Tensor, t: Tensor) -> Tensor:
    weight = torch.where(t.view(-1, 1) == 1, 3.0, 1.0)
    return (weight * F.cross_entropy(x, t, reduction="none")).mean(1).mean()


def dice(x: Tensor, t: Tensor) -> Tensor:
    p = x.sigmoid()
    return 1 - 2 * (p * t).sum() / (p.sum() + t.sum())


def dice_of_each(x: Tensor, t: Tensor) -> Tensor:
    p = x.sigmoid()
    rest = tuple(range(1, p.dim()))
    both = p.sum(rest) + t.sum(tuple(range(1, t.dim())))
    return (1 - 2 * (p * t).sum(rest) / both).mean()


def dice_squeezed(x: Tensor, t: Tensor) -> Tensor:
    return dice(x.squeeze(1), t)


def tversky(x: Tensor, t: Tensor) -> Tensor:
    p = x.sigmoid()
    hit, false, missed = (p * t).sum(), ((1 - t) * p).sum(), (t * (1 - p)).sum()
    return 1 - (hit + 1) / (hit + 0.3 * false + 0.7 * missed + 1)


def jaccard(x: Tensor, t: Tensor) -> Tensor:
    p = x.sigmoid()
    hit = (p * t).sum()
    return -((hit + 1) / (p.sum() + t.sum() - hit + 1)).log()


def dice_and_bce(x: Tensor, t: Tensor) -> Tensor:
    return dice(x, t) + F.binary_cross_entropy_with_logits(x.squeeze(1), t.view(len(t), H, H))


def hinge_all(x: Tensor, t: Tensor) -> Tensor:
    return F.relu(1 - x * (2 * t - 1)).mean()


def pinball(x: Tensor, t: Tensor) -> Tensor:
    e = t - x
    return torch.maximum(0.9 * e, -0.1 * e).mean()


def log_cosh(x: Tensor, t: Tensor) -> Tensor:
    return (x - t).cosh().log().mean()


def root_of_all(x: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(x, t).sqrt()


def quantiles(x: Tensor, t: Tensor) -> Tensor:
    q = torch.tensor([0.1, 0.5, 0.9])
    e = t[:, None] - x
    return torch.maximum(q * e, (q - 1) * e).mean()


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    mean, log_var = x.unbind(1)
    return F.gaussian_nll_loss(mean, t, log_var.exp())


def gaussian_with_sliced_mean(x: Tensor, t: Tensor) -> Tensor:
    mean, log_var = x[:, :1], x[:, 1]
    return (log_var + (mean - t) ** 2 / log_var.exp()).mean()


def gaussian_with_variance(x: Tensor, t: Tensor, var: Tensor) -> Tensor:
    return F.gaussian_nll_loss(x, t, var)


def ctc(x: Tensor, t: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    return F.ctc_loss(x.log_softmax(-1).transpose(0, 1), t, input_lengths, target_lengths)


def with_dropout(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(F.dropout(x, 0.2), t)


def sampled_softmax(x: Tensor, t: Tensor) -> Tensor:
    table = scores(50, D, seed=5)
    drawn = torch.randint(3, 50, (10,))
    logits = torch.cat([(x * table[t]).sum(1, keepdim=True), x @ table[drawn].T], 1)
    return F.cross_entropy(logits, torch.zeros(len(x)).long())


def proxies(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(-torch.cdist(x, scores(C, D, seed=6)), t)


def proxies_by_broadcast(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(-((x[:, None] - scores(B, D, seed=6)) ** 2).sum(-1), t)


def gathered_pairs(x: Tensor, t: Tensor) -> Tensor:
    return F.cosine_similarity(x[:, None], t, dim=-1).diagonal().neg().mean()


def relative(x: Tensor, t: Tensor) -> Tensor:
    return (x - t).norm() / t.norm()


def returns_tuple(x: Tensor, t: Tensor) -> tuple[Tensor, float]:
    return squared(x, t), 3.0


def returns_dict(x: Tensor, t: Tensor) -> dict[str, Any]:
    return {"loss": squared(x, t), "accuracy": 0.5}


def unreduced(x: Tensor, t: Tensor) -> Tensor:
    return (x - t).square().flatten(1).mean(1)


HEALTHY: list[tuple[Any, ...]] = [
    (siamese, scores(B, D), scores(B, D, seed=2), yes_no(B)),
    (triplet, scores(B, D), scores(B, D, seed=2), scores(B, D, seed=3)),
    (weighted, scores(B, C), labels(B, of=C), chances(B)),
    (masked, scores(B, D), scores(B, D, seed=2), yes_no(B, D)),
    (policy_gradient, scores(B), scores(B, seed=2), scores(B, seed=4)),
    (distill, scores(B, C), scores(B, C, seed=2), labels(B, of=C)),
    (F.cosine_embedding_loss, scores(B, D), scores(B, D, seed=2), scores(B).sign()),
    (F.margin_ranking_loss, scores(B), scores(B, seed=2), scores(B).sign()),
    (weighted_errors, scores(B, 1), scores(B, 1, seed=2), chances(B, 1)),
    (gaussian_with_variance, scores(B, 1), scores(B, 1, seed=2), chances(B, 1) + 0.1),
    (
        ctc,
        scores(B, 12, 5),
        labels(B, 4, of=3) + 1,
        torch.arange(12 - B, 12) + 1,
        torch.tensor([1, 2] * (B // 2)),
    ),
    (focal, scores(B, C), labels(B, of=C)),
    (focal_by_positives, scores(B), yes_no(B)),
    (dice_of_each, scores(B, 1, H, H), yes_no(B, 1, H, H)),
    (hinge_all, scores(B), yes_no(B)),
    (pinball, scores(B, 1), scores(B, 1, seed=2)),
    (log_cosh, scores(B), scores(B, seed=2)),
    (root_of_all, scores(B, 1), scores(B, 1, seed=2)),
    (quantiles, scores(B, 3), scores(B, seed=2)),
    (gaussian, scores(B, 2), scores(B, seed=2)),
    (with_dropout, scores(B, C), labels(B, of=C)),
    (sampled_softmax, scores(B, D), labels(B, of=C)),
    (proxies, scores(B, D), labels(B, of=C)),
    (proxies_by_broadcast, scores(B, D), labels(B, of=B)),
    (gathered_pairs, scores(B, D), scores(B, D, seed=2)),
    (relative, scores(B, C), scores(B, C, seed=2)),
    (returns_tuple, scores(B, 1), scores(B, 1, seed=2)),
    (returns_dict, scores(B, 1), scores(B, 1, seed=2)),
    (unreduced, scores(B, 1), scores(B, 1, seed=2)),
    (squared, scores(B, 1), torch.tensor(0.5)),
    (lambda x, t: F.mse_loss(nn.BatchNorm1d(C).eval()(x), t), scores(B, C), chances(B, C)),
]


@pytest.mark.parametrize(("loss", "arguments"), [(loss, rest) for loss, *rest in HEALTHY])
def test_healthy(loss: Callable[..., Any], arguments: list[Tensor]) -> None:
    report = audit(loss, *arguments)
    assert (report.kind, report.bug, report.independent) == ("independent", False, True)


def info_nce(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(F.normalize(x) @ F.normalize(t).T / 0.1, torch.arange(len(x)))


def clip(x: Tensor, t: Tensor) -> Tensor:
    logits, own = F.normalize(x) @ F.normalize(t).T / 0.1, torch.arange(len(x))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def siglip(x: Tensor, t: Tensor) -> Tensor:
    return -F.logsigmoid((x @ t.T) * (2 * torch.eye(len(x)) - 1)).sum() / len(x)


def supervised_contrastive(x: Tensor, t: Tensor) -> Tensor:
    z = F.normalize(x)
    off = ~torch.eye(len(z), dtype=torch.bool)
    log_p = (z @ z.T / 0.5).masked_fill(~off, -1e9).log_softmax(1)
    same = (t[:, None] == t) & off
    return -((log_p * same).sum(1) / same.sum(1).clamp(min=1)).mean()


def in_batch_negatives(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    every = torch.cat([positive, negative])
    return F.cross_entropy(anchor @ every.T, torch.arange(len(anchor)))


def ranked(x: Tensor, t: Tensor) -> Tensor:
    return F.softplus(-(x[:, None] - x) * (t[:, None] - t).sign()).mean()


def auc(x: Tensor, t: Tensor) -> Tensor:
    return F.softplus(x[t == 0][:, None] - x[t == 1]).mean()


def cox(x: Tensor, t: Tensor) -> Tensor:
    later = t >= t[:, None]
    return (x.masked_fill(~later, -1e9).logsumexp(1) - x).mean()


def correlation(x: Tensor, t: Tensor) -> Tensor:
    x, t = x - x.mean(), t - t.mean()
    return 1 - (x * t).sum() / (x.norm() * t.norm())


def barlow_twins(x: Tensor, t: Tensor) -> Tensor:
    x, t = (x - x.mean(0)) / x.std(0), (t - t.mean(0)) / t.std(0)
    return ((x.T @ t / len(x) - torch.eye(x.shape[1])) ** 2).sum()


def sorted_distance(x: Tensor, t: Tensor) -> Tensor:
    return (x.flatten().sort()[0] - t.sort()[0]).abs().mean()


def chamfer(x: Tensor, t: Tensor) -> Tensor:
    distances = ((x[:, None] - t) ** 2).sum(-1)
    return distances.amin(1).mean() + distances.amin(0).mean()


def chamfer_by_norms(x: Tensor, t: Tensor) -> Tensor:
    squares = (x**2).sum(1, keepdim=True) + (t**2).sum(1) - 2 * x @ t.T
    return squares.amin(1).mean()


def chamfer_by_addmm(x: Tensor, t: Tensor) -> Tensor:
    lengths = (x**2).sum(1, keepdim=True) + (t**2).sum(1)
    return torch.addmm(lengths, x, t.T, alpha=-2).amin(1).mean()


def distances_by_norms(x: Tensor, t: Tensor) -> Tensor:
    lengths = (x**2).sum(1, keepdim=True)
    near = (lengths + lengths.squeeze(1) - 2 * x @ x.T) * (t[:, None] == t)
    return near.mean() + F.relu(1 - x.std(0)).mean()


def discrepancy(x: Tensor, t: Tensor) -> Tensor:
    def near(a: Tensor, b: Tensor) -> Tensor:
        return (-((a[:, None] - b[None]) ** 2).sum(-1)).exp().mean()

    return near(x, x) + near(t, t) - 2 * near(x, t)


def balanced(x: Tensor, t: Tensor) -> Tensor:
    count = (t[:, None] == t).sum(1)
    return (F.cross_entropy(x, t, reduction="none") / count).mean()


def vicreg(x: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(x, t) + F.relu(1 - x.std(0)).mean()


def column_of_targets(x: Tensor, t: Tensor) -> Tensor:
    t = t.unsqueeze(1)
    return ((x - t) ** 2).mean()


def column_of_targets_in_place(x: Tensor, t: Tensor) -> Tensor:
    return ((x[:, 0] - t.unsqueeze(1)) ** 2).mean()


def repeated_on_purpose(x: Tensor, t: Tensor) -> Tensor:
    n = len(x)
    return ((x.expand(n, n) - t.expand(n, n)) ** 2).mean()


def all_pairs_by_kept_norms(x: Tensor, t: Tensor) -> Tensor:
    return ((x**2).sum(1, keepdim=True) + (t**2).sum(1) - 2 * x @ t.T).mean()


def product(x: Tensor, t: Tensor) -> Tensor:
    """All pairs of two vectors, side by side."""
    pairs = torch.cartesian_prod(x, t)
    return ((pairs[:, 0] - pairs[:, 1]) ** 2).mean()


def mesh(x: Tensor, t: Tensor) -> Tensor:
    one, other = torch.meshgrid(x, t, indexing="ij")
    return ((one - other) ** 2).mean()


def energy_distance(x: Tensor, t: Tensor) -> Tensor:
    return torch.cdist(x, t).mean() - 0.5 * torch.cdist(x, x).mean()


def soft_neighbours(x: Tensor, t: Tensor) -> Tensor:
    own, others = (x @ x.T).log_softmax(1), (t @ t.T).softmax(1)
    return F.kl_div(own, others, reduction="batchmean")


def column_of_class_weights(x: Tensor, t: Tensor) -> Tensor:
    weight = torch.where(t > 0, 2.0, 1.0)[:, None]
    return (weight * F.mse_loss(x, t, reduction="none")).mean()


# The plain mean over all pairs: the gradients are those of the bug, and the loss makes them itself.
ALL_PAIRS: list[tuple[Any, ...]] = [
    (lambda x, t: squared(x[:, None], t[None]), scores(B), scores(B, seed=2)),
    (lambda x, t: squared(x.unsqueeze(1), t), scores(B), scores(B, seed=2)),
    (lambda x, t: ((x - t.unsqueeze(1)) ** 2).mean(), scores(B), scores(B, seed=2)),
    (lambda x, t: squared(x.view(-1, 1), t.view(1, -1)), scores(B, 1), scores(B, 1, seed=2)),
    (lambda x, t: squared(x, t.T), scores(B, 1), scores(B, 1, seed=2)),
    (lambda x, t: squared(x[:, None], t[None]), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: (x[:, None] - t).norm(dim=-1).mean(), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: squared(x, t[None]), scores(B, 1), scores(B, seed=2)),
    (lambda x, t: torch.cdist(x, t).mean(), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: -(-torch.cdist(x, t).square()).exp().mean(), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: (F.normalize(x) @ F.normalize(t).T).mean(), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: -F.logsigmoid(-(x @ t.T)).mean(), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: torch.einsum("id,jd->ij", x, t).mean(), scores(B, D), scores(B, D, seed=2)),
    (lambda x, t: F.cosine_similarity(x[:, None], t[None], dim=-1).mean(), scores(B, D),
     scores(B, D, seed=2)),
    (lambda x, t: F.softplus(t.view(1, -1) - x).mean(), scores(B, 1), scores(B, 1, seed=2)),
    (lambda x, t: squared(x.repeat_interleave(len(t)), t.repeat(len(x))), scores(B),
     scores(B, seed=2)),
    (repeated_on_purpose, scores(B, 1), scores(B, seed=2)),
    (all_pairs_by_kept_norms, scores(B, D), scores(B, D, seed=2)),
    (product, scores(B), scores(B, seed=2)),
    (mesh, scores(B), scores(B, seed=2)),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "arguments"), [(loss, rest) for loss, *rest in ALL_PAIRS])
def test_all_pairs_on_purpose(loss: Callable[..., Any], arguments: list[Tensor]) -> None:
    report = audit(loss, *arguments)
    assert (report.kind, report.bug, report.independent) == ("coupled", False, False)


COUPLED: list[tuple[Any, ...]] = [
    (info_nce, scores(B, D), scores(B, D, seed=2)),
    (clip, scores(B, D), scores(B, D, seed=2)),
    (siglip, scores(B, D), scores(B, D, seed=2)),
    (siglip, scores(B, B), scores(B, B, seed=2)),
    (supervised_contrastive, scores(B, D), torch.arange(B) // 2),
    (in_batch_negatives, scores(B, D), scores(B, D, seed=2), scores(B, D, seed=3)),
    (ranked, scores(B), chances(B)),
    (auc, scores(B), torch.tensor([0.0, 1.0] * (B // 2))),
    (cox, scores(B), chances(B)),
    (energy_distance, scores(B, 1), scores(B, 1, seed=2)),
    (soft_neighbours, scores(B, D), scores(B, D, seed=2)),
    (correlation, scores(B), chances(B)),
    (correlation, scores(B, 1), chances(B, 1)),
    (barlow_twins, scores(B, C), scores(B, C, seed=2)),
    (sorted_distance, scores(B, 1), scores(B, seed=2)),
    (chamfer, scores(B, C), scores(B, C, seed=2)),
    (chamfer, scores(B, 1), scores(B, 1, seed=2)),
    (chamfer_by_norms, scores(B, C), scores(B, C, seed=2)),
    (chamfer_by_addmm, scores(B, C), scores(B, C, seed=2)),
    (distances_by_norms, scores(B, C), torch.arange(B) // 2),
    (discrepancy, scores(B, C), scores(B, C, seed=2) + 1),
    (discrepancy, scores(B, C), scores(B - 1, C, seed=2) + 1),
    (balanced, scores(B, C), labels(B, of=C)),
    (vicreg, scores(B, C), scores(B, C, seed=2)),
    (dice, scores(B, 1, H, H), yes_no(B, 1, H, H)),
    (dice, scores(B), yes_no(B)),
    (dice_squeezed, scores(B, 1, H, H), yes_no(B, H, H)),
    (tversky, scores(B, 1, H, H), yes_no(B, 1, H, H)),
    (jaccard, scores(B, H, H), yes_no(B, H, H)),
    (lambda x, t: F.mse_loss(NORM(x), t), scores(B, C), chances(B, C)),
    (lambda x, t: (x - t).abs().quantile(0.9), scores(B), chances(B)),
]
NORM = nn.BatchNorm1d(C)


@pytest.mark.parametrize(("loss", "arguments"), [(loss, rest) for loss, *rest in COUPLED])
def test_coupled_on_purpose(loss: Callable[..., Any], arguments: list[Tensor]) -> None:
    report = audit(loss, *arguments)
    assert (report.kind, report.bug, report.independent) == ("coupled", False, False)


WEIGHT = scores(1, D, seed=5)
BROKEN: list[tuple[Any, ...]] = [
    (squared, scores(B, 1), scores(B, seed=2)),
    (squared, scores(B), scores(B, 1, seed=2)),
    (squared, scores(B, 1), scores(1, B, seed=2)),
    (lambda x, t: squared(x.squeeze(1), t), scores(B, 1), scores(B, 1, seed=2)),
    (lambda x, t: squared(x.mean(1, keepdim=True), t), scores(B, D), scores(B, seed=2)),
    (lambda x, t: squared(x.squeeze(), t.view(-1, 1)), scores(B, 1), scores(B, seed=2)),
    (lambda x, t: squared(nn.functional.linear(x, WEIGHT), t), scores(B, D), scores(B, seed=2)),
    (lambda x, t: squared(x, t.unsqueeze(1)), scores(B), scores(B, seed=2)),
    (column_of_class_weights, scores(B), scores(B, seed=2)),
    (column_of_targets, scores(B), scores(B, seed=2)),
    (column_of_targets_in_place, scores(B, 1), scores(B, seed=2)),
    (squared, scores(B, 1), scores(7)),
    (squared, scores(B, 1), scores(1, 7)),
    (squared, scores(B), scores(7, 1)),
    (squared, scores(B, 1), scores(16)),
    (squared, scores(B, 1, H), scores(5, H)),
    (F.l1_loss, scores(B, 1), scores(7)),
    (F.mse_loss, scores(B, 1), scores(7)),
    (lambda x, t: squared(x, t).sqrt(), scores(B, 1), scores(7)),
    (lambda x, t: (x - t).abs().sum(), scores(B, 1), scores(1, 7)),
    (hinge_all, scores(B, 1), yes_no(7)),
    (focal_alpha_column, scores(B, C), labels(B, of=C)),
    (focal_pt_column, scores(B, C), labels(B, of=C)),
    (focal_detached_column, scores(B, C), labels(B, of=C)),
    (weight_by_where, scores(B, C), labels(B, of=C)),
    (weighted, scores(B, C), labels(B, of=C), chances(B, 1)),
    (weighted_errors, scores(B), scores(B, seed=2), chances(B, 1)),
    (weighted_errors, scores(B, 1), scores(B, 1, seed=2), chances(B)),
    (dice, scores(B, 1, H, H), yes_no(B, H, H)),
    (dice, scores(B, 1), yes_no(B)),
    (dice, scores(B), yes_no(B, 1)),
    (dice_of_each, scores(B, 1, H, H), yes_no(B, H, H)),
    (dice_squeezed, scores(B, 1, H, H), yes_no(B, 1, H, H)),
    (tversky, scores(B, 1, H, H), yes_no(B, H, H)),
    (jaccard, scores(B, 1, H, H), yes_no(B, H, H)),
    (dice_and_bce, scores(B, 1, H, H), yes_no(B, H, H)),
    (siamese_with_kept_axis, scores(B, D), scores(B, D, seed=2), yes_no(B)),
    (siamese, scores(B, D), scores(B, D, seed=2), yes_no(B, 1)),
    (root_of_siamese, scores(B, D), scores(B, D, seed=2), yes_no(B)),
    (triplet_with_kept_axis, scores(B, D), scores(B, D, seed=2), scores(B, D, seed=3)),
    (gaussian_with_sliced_mean, scores(B, 2), scores(B, 1, seed=2)),
    (masked, scores(B, D), scores(B, D, seed=2), yes_no(B, 1, D)),
    (policy_gradient, scores(B), scores(B, seed=2), scores(B, 1, seed=4)),
    (policy_gradient, scores(B, 1), scores(B, seed=2), scores(B, seed=4)),
    (pinball, scores(B, 1), scores(B, seed=2)),
    (log_cosh, scores(B, 1), scores(B, seed=2)),
    (root_of_all, scores(B, 1), scores(B, seed=2)),
    (returns_tuple, scores(B, 1), scores(B, seed=2)),
    (returns_dict, scores(B, 1), scores(B, seed=2)),
]


@pytest.mark.parametrize(("loss", "arguments"), [(loss, rest) for loss, *rest in BROKEN])
def test_broken(loss: Callable[..., Any], arguments: list[Tensor]) -> None:
    report = audit(loss, *arguments)
    assert (report.kind, report.bug, report.independent) == ("broadcast", True, False)
    assert "and both are stretched to" in "\n".join(report.notes)
