"""Every loss of the library, one row each: the laws are tests over this table.

A row names the native loss, and draws inputs that PyTorch accepts: so a loss that is added to the
table is covered by every law.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import outsiders.losses as outsiders
import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

import safeloss
from safeloss import functional as SF

# What `from safeloss import *` gives, in which every fix must run.
PUBLIC = {name: getattr(safeloss, name) for name in safeloss.__all__}

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


OURS = ("label_smoothing", "class_dim", "num_classes", "check_values", "empty")


@dataclass
class Drawn:
    """Inputs in the layouts that PyTorch expects, and options of the constructor."""

    inputs: list[Tensor]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Loss:
    safe: type[nn.Module]
    native: type[nn.Module]
    kernel: Callable[..., Tensor] | None  # on the same inputs, where there is one
    native_kernel: Callable[..., Tensor] | None
    draw: Callable[[st.DrawFn, torch.dtype], Drawn]
    batch: Callable[[int], list[Tensor]]  # plain inputs of so many samples, with fine values
    pinned: bool = False  # a size-1 axis before the batch is refused
    differentiable: int = 9  # so many inputs, from the first
    loose: int = 9  # inputs before this one, but for the first, are aligned
    options: dict[str, Any] = field(default_factory=dict, compare=False)  # for plain inputs

    def __str__(self) -> str:
        return self.safe.__name__


def _shape(draw: st.DrawFn, least: int = 0, most: int = 3) -> list[int]:
    return draw(st.lists(st.integers(1, 4), min_size=least, max_size=most))


def _scores(draw: st.DrawFn, shape: list[int], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul(3).to(dtype)


def _chances(draw: st.DrawFn, shape: list[int], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def _indices(draw: st.DrawFn, shape: list[int], classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    return torch.randint(classes, shape, generator=generator)


def _reduction(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["none", "mean", "sum"]))


def _binary(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    shape = _shape(draw)
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    for name in ("weight", "pos_weight"):
        kind = draw(st.sampled_from(["none", "full", "scalar", "trailing"]))
        if kind == "full":
            options[name] = _chances(draw, shape, dtype)
        elif kind == "scalar":
            options[name] = _chances(draw, [], dtype)
        elif kind == "trailing" and 1 <= len(shape) <= 2:
            options[name] = _chances(draw, shape[-1:], dtype)
    return Drawn([_scores(draw, shape, dtype), _chances(draw, shape, dtype)], options)


def _multilabel(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, classes = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    shape = [batch, classes]
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    if draw(st.booleans()):
        options["pos_weight"] = _chances(draw, [classes], dtype)
    return Drawn([_scores(draw, shape, dtype), _chances(draw, shape, dtype)], options)


def _classes(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, classes, space = draw(st.integers(1, 5)), draw(st.integers(2, 4)), _shape(draw, most=2)
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1]))
    if draw(st.booleans()):
        options["weight"] = _chances(draw, [classes], dtype)
    scores = _scores(draw, [batch, classes, *space], dtype)
    if draw(st.booleans()):
        return Drawn([scores, _scores(draw, [batch, classes, *space], dtype).softmax(1)], options)
    if len(scores.shape) > 2:
        options["class_dim"] = 1  # where the sizes may make it a tie
    target = _indices(draw, [batch, *space], classes)
    if draw(st.booleans()):
        options["ignore_index"] = int(_indices(draw, [], classes))
    return Drawn([scores, target], options)


def _probabilities(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    drawn = _binary(draw, dtype)
    drawn.options.pop("pos_weight", None)
    return Drawn([drawn.inputs[0].sigmoid(), drawn.inputs[1]], drawn.options)


def _labels(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    shape = _shape(draw, least=1)
    options: dict[str, Any] = {"reduction": _reduction(draw)}
    if draw(st.booleans()):
        options["weight"] = _chances(draw, shape[-1:] if len(shape) < 3 else shape, dtype)
    return Drawn([_scores(draw, shape, dtype), _chances(draw, shape, dtype)], options)


def _numbers(count: int = 2, **choices: list[Any]) -> Callable[[st.DrawFn, torch.dtype], Drawn]:
    """As many inputs of one shape, and each option from its choices."""

    def drawn(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
        shape = _shape(draw)
        options = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
        options.setdefault("reduction", _reduction(draw))
        return Drawn([_scores(draw, shape, dtype) for _ in range(count)], options)

    return drawn


def _signs(count: int, least: int = 0, **choices: list[Any]):
    """The same with a target of signs at the end."""

    def drawn(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
        call = _numbers(count + 1, **choices)(draw, dtype)
        return Drawn([*call.inputs[:-1], call.inputs[-1].sign()], call.options)

    return drawn


def _log_classes(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    drawn = _classes(draw, dtype)
    drawn.options.pop("label_smoothing")
    if drawn.inputs[1].is_floating_point():
        drawn.inputs[1] = drawn.inputs[1].argmax(1)
        if len(drawn.inputs[0].shape) > 2:
            drawn.options["class_dim"] = 1
    return drawn


def _margins(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, classes = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    options: dict[str, Any] = {"reduction": _reduction(draw), "p": draw(st.sampled_from([1, 2]))}
    if draw(st.booleans()):
        options["weight"] = _chances(draw, [classes], dtype)
    scores = _scores(draw, [batch, classes], dtype)
    return Drawn([scores, _indices(draw, [batch], classes)], options)


def _sets(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, classes = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    target = torch.stack([torch.randperm(classes) for _ in range(batch)])
    target[:, draw(st.integers(1, classes - 1)) :] = -1
    return Drawn([_scores(draw, [batch, classes], dtype), target], {"reduction": _reduction(draw)})


def _pairs(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, features = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    pair = [_scores(draw, [batch, features], dtype) for _ in range(2)]
    return Drawn([*pair, _scores(draw, [batch], dtype).sign()], {"reduction": _reduction(draw)})


def _triplets(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    shape = _shape(draw, least=1)
    options = {"reduction": _reduction(draw), "swap": draw(st.booleans())}
    return Drawn([_scores(draw, shape, dtype) for _ in range(3)], options)


def _gaussian(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    drawn = _numbers(full=[False, True])(draw, dtype)
    shape = list(drawn.inputs[0].shape)
    if shape and draw(st.booleans()):
        shape = draw(st.sampled_from([shape[:-1], [*shape[:-1], 1]]))
    return Drawn([*drawn.inputs, _chances(draw, shape, dtype)], drawn.options)


def _sequences(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, length = draw(st.integers(1, 3)), 3
    log_probs = _scores(draw, [8, batch, 4], dtype).log_softmax(-1)
    lengths = [torch.full((batch,), 8), torch.full((batch,), length)]
    labels = 1 + _indices(draw, [batch, length], 3)
    options = {"reduction": _reduction(draw)}
    return Drawn(
        [log_probs, labels.flatten() if draw(st.booleans()) else labels, *lengths], options
    )


def _frequent_classes(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    batch, features, classes = draw(st.integers(1, 5)), draw(st.integers(4, 6)), 8
    options = {"in_features": features, "n_classes": classes, "cutoffs": [2, 4], "div_value": 2.0}
    options |= {"head_bias": draw(st.booleans()), "dtype": dtype}
    scores = _scores(draw, [batch, features], dtype)
    return Drawn([scores, _indices(draw, [batch], classes)], options)


def _linear_classes(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    drawn = _classes(draw, dtype)
    batch, classes, *space = drawn.inputs[0].shape
    features = draw(st.integers(1, 4))
    options = {"in_features": features, "num_classes": classes, "out_features": tuple(space)}
    drawn.options.pop("class_dim", None)
    options |= {"bias": draw(st.booleans()), "dtype": dtype, **drawn.options}
    return Drawn([_scores(draw, [batch, features], dtype), drawn.inputs[1]], options)


def _signed(n: int) -> Tensor:
    return torch.randn(n, 1).sign()


def _sequence_batch(n: int) -> list[Tensor]:
    log_probs = torch.randn(8, n, 4).log_softmax(-1)
    labels = torch.randint(1, 4, (n, 3))
    return [log_probs, labels, torch.full((n,), 8), torch.full((n,), 3)]


LOSSES = [
    Loss(
        safeloss.SafeBCEWithLogitsLoss,
        nn.BCEWithLogitsLoss,
        SF.binary_cross_entropy_with_logits,
        F.binary_cross_entropy_with_logits,
        _binary,
        lambda n: [torch.randn(n, 1), torch.rand(n, 1)],
    ),
    Loss(
        safeloss.MultiLabelBCE,
        nn.BCEWithLogitsLoss,
        SF.multilabel_binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
        _multilabel,
        lambda n: [torch.randn(n, 3), torch.rand(n, 3)],
        pinned=True,
    ),
    Loss(
        safeloss.SafeCrossEntropyLoss,
        nn.CrossEntropyLoss,
        SF.cross_entropy,
        F.cross_entropy,
        _classes,
        lambda n: [torch.randn(n, 3, 7), torch.randint(3, (n, 7))],
        pinned=True,
    ),
    Loss(
        safeloss.SafeBCELoss,
        nn.BCELoss,
        SF.binary_cross_entropy,
        F.binary_cross_entropy,
        _probabilities,
        lambda n: [torch.rand(n, 1), torch.rand(n, 1)],
    ),
    Loss(
        safeloss.SafeMultiLabelSoftMarginLoss,
        nn.MultiLabelSoftMarginLoss,
        SF.multilabel_soft_margin_loss,
        F.multilabel_soft_margin_loss,
        _labels,
        lambda n: [torch.randn(n, 3), torch.rand(n, 3)],
    ),
    Loss(
        safeloss.SafeSoftMarginLoss,
        nn.SoftMarginLoss,
        SF.soft_margin_loss,
        F.soft_margin_loss,
        _signs(1),
        lambda n: [torch.randn(n, 1), _signed(n)],
        differentiable=1,
    ),
    Loss(
        safeloss.SafeHingeEmbeddingLoss,
        nn.HingeEmbeddingLoss,
        SF.hinge_embedding_loss,
        F.hinge_embedding_loss,
        _signs(1, margin=[0.5, 1.0]),
        lambda n: [torch.randn(n, 1), _signed(n)],
    ),
    Loss(
        safeloss.SafeNLLLoss,
        nn.NLLLoss,
        SF.nll_loss,
        F.nll_loss,
        _log_classes,
        lambda n: [torch.randn(n, 3, 7).log_softmax(1), torch.randint(3, (n, 7))],
        pinned=True,
    ),
    Loss(
        safeloss.SafeMultiMarginLoss,
        nn.MultiMarginLoss,
        SF.multi_margin_loss,
        F.multi_margin_loss,
        _margins,
        lambda n: [torch.randn(n, 3), torch.randint(3, (n,))],
        pinned=True,
    ),
    Loss(
        safeloss.SafeMultiLabelMarginLoss,
        nn.MultiLabelMarginLoss,
        SF.multilabel_margin_loss,
        F.multilabel_margin_loss,
        _sets,
        lambda n: [torch.randn(n, 3), torch.tensor([[1, 0, 2]]).repeat(n, 1)],
        pinned=True,
    ),
    *(
        Loss(safe, native, kernel, native_kernel, draw, lambda n: [torch.randn(n, 1)] * 2)
        for safe, native, kernel, native_kernel, draw in (
            (safeloss.SafeL1Loss, nn.L1Loss, SF.l1_loss, F.l1_loss, _numbers()),
            (safeloss.SafeMSELoss, nn.MSELoss, SF.mse_loss, F.mse_loss, _numbers()),
            (
                safeloss.SafeSmoothL1Loss,
                nn.SmoothL1Loss,
                SF.smooth_l1_loss,
                F.smooth_l1_loss,
                _numbers(beta=[0.5, 1.0]),
            ),
            (
                safeloss.SafeHuberLoss,
                nn.HuberLoss,
                SF.huber_loss,
                F.huber_loss,
                _numbers(delta=[0.5, 1.0]),
            ),
        )
    ),
    Loss(
        safeloss.SafePoissonNLLLoss,
        nn.PoissonNLLLoss,
        SF.poisson_nll_loss,
        F.poisson_nll_loss,
        _numbers(log_input=[False, True], full=[False, True]),
        lambda n: [torch.randn(n, 1), torch.rand(n, 1)],
    ),
    Loss(
        safeloss.SafeKLDivLoss,
        nn.KLDivLoss,
        SF.kl_div,
        F.kl_div,
        _numbers(reduction=["none", "sum"], log_target=[False, True]),
        lambda n: [torch.randn(n, 3).log_softmax(1), torch.rand(n, 3)],
        options={"reduction": "batchmean"},
    ),
    Loss(
        safeloss.SafeGaussianNLLLoss,
        nn.GaussianNLLLoss,
        SF.gaussian_nll_loss,
        F.gaussian_nll_loss,
        _gaussian,
        lambda n: [torch.randn(n, 1), torch.randn(n, 1), torch.rand(n, 1)],
        loose=2,
    ),
    Loss(
        safeloss.SafeMarginRankingLoss,
        nn.MarginRankingLoss,
        SF.margin_ranking_loss,
        F.margin_ranking_loss,
        _signs(2),
        lambda n: [torch.randn(n, 1), torch.randn(n, 1), _signed(n)],
    ),
    Loss(
        safeloss.SafeCosineEmbeddingLoss,
        nn.CosineEmbeddingLoss,
        SF.cosine_embedding_loss,
        F.cosine_embedding_loss,
        _pairs,
        lambda n: [torch.randn(n, 3), torch.randn(n, 3), _signed(n)[:, 0]],
        pinned=True,
    ),
    Loss(
        safeloss.SafeTripletMarginLoss,
        nn.TripletMarginLoss,
        SF.triplet_margin_loss,
        F.triplet_margin_loss,
        _triplets,
        lambda n: [torch.randn(n, 3), torch.randn(n, 3), torch.randn(n, 3)],
    ),
    Loss(
        safeloss.SafeTripletMarginWithDistanceLoss,
        nn.TripletMarginWithDistanceLoss,
        SF.triplet_margin_with_distance_loss,
        F.triplet_margin_with_distance_loss,
        _triplets,
        lambda n: [torch.randn(n, 3), torch.randn(n, 3), torch.randn(n, 3)],
    ),
    Loss(
        safeloss.SafeCTCLoss,
        nn.CTCLoss,
        SF.ctc_loss,
        F.ctc_loss,
        _sequences,
        _sequence_batch,
        loose=1,
    ),
    Loss(
        safeloss.SafeAdaptiveLogSoftmaxWithLoss,
        nn.AdaptiveLogSoftmaxWithLoss,
        None,
        None,
        _frequent_classes,
        lambda n: [torch.randn(n, 5), torch.randint(8, (n,))],
        pinned=True,
        options={"in_features": 5, "n_classes": 8, "cutoffs": [2, 4], "div_value": 2.0},
    ),
]
if "SafeLinearCrossEntropyLoss" in safeloss.__all__:  # since torch 2.13
    LOSSES.append(
        Loss(
            safeloss.SafeLinearCrossEntropyLoss,
            nn.LinearCrossEntropyLoss,
            None,
            None,
            _linear_classes,
            lambda n: [torch.randn(n, 5), torch.randint(3, (n,))],
            pinned=True,
            options={"in_features": 5, "num_classes": 3},
        )
    )


class Bare(nn.Module):
    """A loss of one's own without its check: the body, and a reduction as PyTorch's losses have."""

    function: Callable[..., Tensor]

    def __init__(self, reduction: str = "mean", **options: Any) -> None:
        super().__init__()
        self.reduction, self.options = reduction, options

    def forward(self, *inputs: Tensor) -> Tensor:
        loss = type(self).function.signature.kernel.body(*inputs, **self.options)
        return loss if self.reduction == "none" else getattr(loss, self.reduction)()


def _own(
    safe: type[nn.Module],
    draw: Callable[[st.DrawFn, torch.dtype], Drawn],
    batch: Callable[[int], list[Tensor]],
    **more: Any,
) -> Loss:
    """The row of a loss that is written with `safeloss.checked`."""
    function = safe._kernel
    options = [name for name in inspect.signature(safe).parameters if name not in OURS]
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in options]
    bare = type(f"Bare{safe.__name__}", (Bare,), {"function": function})
    bare.__signature__ = inspect.Signature(keywords)
    return Loss(safe, bare, function, function.signature.kernel.body, draw, batch, **more)


def _focal_classes(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    drawn = _log_classes(draw, dtype)
    for name in ("reduction", "weight"):  # the mean divides by what counts: see `test_extra`
        drawn.options.pop(name, None)
    drawn.options |= {"reduction": draw(st.sampled_from(["none", "sum"])), "gamma": 2.0}
    return drawn


def _labelled(**choices: list[Any]) -> Callable[[st.DrawFn, torch.dtype], Drawn]:
    def drawn(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
        call = _numbers(**choices)(draw, dtype)
        return Drawn([call.inputs[0], call.inputs[1].sigmoid()], call.options)

    return drawn


def _maps(draw: st.DrawFn, dtype: torch.dtype) -> Drawn:
    shape = [draw(st.integers(1, 3)), draw(st.integers(2, 3)), *_shape(draw, most=2)]
    options: dict[str, Any] = {n: draw(st.booleans()) for n in ("softmax", "squared")}
    options["reduction"] = _reduction(draw)
    return Drawn([_scores(draw, shape, dtype), _chances(draw, shape, dtype)], options)


# Losses that are written with `safeloss.checked`: the library's and those of outsiders.
OWN = [
    _own(
        safeloss.SigmoidFocalLoss,
        _labelled(alpha=[None, 0.25], gamma=[0.0, 2.0]),
        lambda n: [torch.randn(n, 1), torch.rand(n, 1)],
    ),
    _own(
        safeloss.SoftmaxFocalLoss,
        _focal_classes,
        lambda n: [torch.randn(n, 3, 7), torch.randint(3, (n, 7))],
        pinned=True,
    ),
    _own(
        safeloss.DiceLoss,
        _maps,
        lambda n: [torch.randn(n, 2, 5), torch.rand(n, 2, 5)],
        pinned=True,
    ),
    _own(outsiders.Focal, _labelled(gamma=[1.0, 2.0]), lambda n: [torch.rand(n, 1)] * 2),
    _own(outsiders.Contrastive, _labelled(margin=[0.5, 1.0]), lambda n: [torch.rand(n, 1)] * 2),
    _own(outsiders.Quantile, _numbers(q=[0.5, 0.9]), lambda n: [torch.randn(n, 1)] * 2),
    _own(outsiders.Policy, _numbers(), lambda n: [torch.randn(n, 1)] * 2),
]
WITH_FUNCTIONS = [loss for loss in LOSSES if loss.kernel is not None]
AT_CALL = ("sample_weight", "mask", "denominator")


@st.composite
def calls(draw: st.DrawFn, loss: Loss, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Drawn:
    """A call that PyTorch accepts, with values never read: they are random numbers."""
    drawn = loss.draw(draw, draw(st.sampled_from(dtypes)))
    drawn.options["check_values"] = "never"
    try:
        run(build(loss, drawn)[1], drawn.inputs, loss.differentiable)
    except RuntimeError:  # no half precision on a CPU, for some
        assume(False)
    return drawn


def build(loss: Loss, drawn: Drawn) -> tuple[nn.Module, nn.Module]:
    """The safe module and the native one, with the same options."""
    known = inspect.signature(loss.native).parameters
    safe = loss.safe(**drawn.options)
    native = loss.native(**{k: value for k, value in drawn.options.items() if k in known})
    native.load_state_dict(safe.state_dict())
    return safe, native


def run(
    module: Callable[..., Tensor], inputs: list[Tensor], differentiable: int = 9
) -> list[Tensor]:
    """The values and the gradients of all floating inputs, parameters of a layer among them."""
    leaves = [x.detach().clone() for x in inputs]
    for leaf in leaves[:differentiable]:
        leaf.requires_grad_(leaf.is_floating_point())
    values = several(module(*leaves))
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    wanted += module.parameters() if isinstance(module, nn.Module) else []
    total = sum(value.sum() for value in values)
    grads = torch.autograd.grad(total, wanted, allow_unused=True)
    return [*[value.detach() for value in values], *[g for g in grads if g is not None]]


def several(output: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The tensors of an output, of which a layer gives two."""
    return output if isinstance(output, tuple) else (output,)


def equal(one: Tensor | tuple[Tensor, ...], other: Tensor | tuple[Tensor, ...]) -> bool:
    """Equal, tensor by tensor."""
    return all(torch.equal(a, b) for a, b in zip(several(one), several(other), strict=True))


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Equal bit for bit, NaN being NaN."""
    return len(one) == len(other) and all(
        a.shape == b.shape
        and a.dtype == b.dtype
        and torch.equal(a.isnan(), b.isnan())
        and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(one, other)
    )
