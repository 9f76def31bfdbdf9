"""What the evidence means, one row per verdict, and what mends it."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from safeloss import functional
from safeloss._audit.evidence import Evidence
from safeloss._audit.experiments import measure
from safeloss._audit.probing import AnyLoss, Probe
from safeloss._messages.fixes import evaluate
from safeloss.losses import SAFE

Kind: TypeAlias = Literal[
    "independent",
    "broadcast",
    "softmax over the batch",
    "wrong class axis",
    "shared target",
    "coupled",
    "flat",
    "not finite",
    "unsteady",
]


class Verdict(NamedTuple):
    """A row: what is seen in the evidence, what it is called, and what to do about it.

    `{n}` is the number of samples, `{read}` the axis along which classes are compared and `{axes}`
    those that may hold them. `edits` of the call, and `losses` to take in its place, are
    expressions over `loss`, `input` and `target`, `{safe}` being our form of a native loss; of
    each the first is promised that an audit finds nothing wrong with.
    """

    kind: Kind
    applies: Callable[[Evidence], bool]
    words: str
    bug: bool = True
    advice: str = ""
    edits: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


_ALIGN = ("loss(input, safeloss.align(target, like=input))", "loss(input, target.view_as(input))")
_CLASSES_SECOND = (
    "loss(input.movedim(-1, 1), target)",
    "loss(input.movedim(-1, 1), target.movedim(-1, 1))",
)
_SIGMOID = ("SafeBCEWithLogitsLoss()(input, target)",)
_WHERE_THEY_MEET = "In the loss, where the two meet: `safeloss.align(target, like=input)`."
_ON_PURPOSE = (
    "If that is meant, the batch size is part of the loss: a smaller last batch, or gradient "
    "accumulation, changes what is learnt. If not, look for an operation along axis 0."
)


def _is_stretched(evidence: Evidence) -> bool:
    """Whether inputs meet every target but not one another, and the target stretches the input.

    For what is more than a mean, such as its root; the shapes tell it from a distance of sets.
    """
    reversed_shapes = (evidence.input[::-1], evidence.target[::-1])
    sizes = list(itertools.zip_longest(*reversed_shapes, fillvalue=1))
    fit = all(a == b or 1 in (a, b) for a, b in sizes) and any(a < b for a, b in sizes)
    return fit and evidence.unpaired and not evidence.by_input.bends


def _competes(evidence: Evidence) -> bool:
    """Whether samples move one another as a softmax over axis 0 would, and as nothing else."""
    by_target = evidence.by_target
    return 0 in evidence.read and by_target.mixes and (by_target.softmax or by_target.crossed)


def _reads_elsewhere(evidence: Evidence) -> bool:
    read = evidence.read - {0}
    return bool(read and evidence.class_axes) and not read & evidence.class_axes


def _reads_one_of_two(evidence: Evidence) -> bool:
    last = len(evidence.input) - 1
    return len(evidence.class_axes) > 1 and 1 in evidence.read and last in evidence.class_axes


VERDICTS = (
    Verdict(
        "unsteady",
        lambda e: not e.steady,
        "No verdict: two calls on the same tensors, from the same state of the random generators, "
        "gave different results.",
        bug=False,
        advice="It has a state that cannot be copied, or a generator of its own.",
    ),
    Verdict(
        "not finite",
        lambda e: not e.finite,
        "The loss or its gradient is NaN or infinite on these tensors.",
        advice="A mean over nothing (every target ignored), a logarithm of 0, or NaN in the data.",
    ),
    Verdict(
        "flat",
        lambda e: e.flat and len(e.input) > 1 and e.input[1] == 1,
        "No input gets a gradient, whatever its target, as with the softmax of one class, which "
        "is 1 whatever its score.",
        advice="One score per sample answers a yes/no question, and that takes a sigmoid.",
        losses=_SIGMOID,
    ),
    Verdict(
        "flat",
        lambda e: e.flat,
        "No input gets a gradient, whatever its target: on tensors like these nothing is learnt.",
        advice="A constant, an input that is not used, or a margin that all samples keep.",
    ),
    Verdict(
        "softmax over the batch",
        _competes,
        "The softmax runs over the batch (axis 0): the samples compete with one another.",
        advice="A softmax belongs on the axis of the classes, and one score per sample takes a "
        "sigmoid. Items of a list that are meant to compete need a batch axis before theirs.",
        edits=("loss(input.movedim(0, 1), target)",),
        losses=_SIGMOID,
    ),
    Verdict(
        "broadcast",
        lambda e: e.by_target.mixes and e.by_target.crossed,
        "The target of sample j is used for element j of every sample: it lies along another axis "
        "that happens to have {n} elements too.",
        advice=_WHERE_THEY_MEET,
        edits=(*_ALIGN, "loss(input, target.unsqueeze(-1).expand_as(input))"),
    ),
    Verdict(
        "broadcast",
        lambda e: e.pairs or _is_stretched(e),
        "Every input is scored against the targets of all {n} samples, {n} x {n} pairs, as when "
        "[B, 1] meets [B] and both are stretched to [B, B].",
        advice=_WHERE_THEY_MEET,
        edits=_ALIGN,
        losses=("{safe}(input, target)",),
    ),
    Verdict(
        "wrong class axis",
        lambda e: not e.mixes and _reads_elsewhere(e),
        "The loss compares scores along axis {read}, and the classes are on axis {axes}.",
        advice="Give the softmax, and all else that runs over the classes, their axis.",
        edits=_CLASSES_SECOND,
    ),
    Verdict(
        "wrong class axis",
        lambda e: not e.mixes and _reads_one_of_two(e),
        "The loss takes axis 1 for the classes, and by its size the last axis may hold them too.",
        advice="Only you know which. If it is axis 1, tell the audit so by `class_dim=1`; if it is "
        "the last, a safe loss takes `class_dim=-1`.",
        edits=_CLASSES_SECOND,
    ),
    Verdict(
        "shared target",
        lambda e: not e.mixes and e.shared,
        "The samples do not mix, but one target serves all {n}: it has no axis of that size.",
        advice="If that is meant, say so by `target.expand_as(input)`.",
    ),
    Verdict(
        "coupled",
        lambda e: e.mixes and e.alone is not None and e.alone.parallel,
        "Each sample is pushed as it would be alone, but how hard depends on the others, as with "
        "hard-example mining and weights made from the batch.",
        bug=False,
        advice=_ON_PURPOSE,
    ),
    Verdict(
        "coupled",
        lambda e: e.mixes and e.unpaired,
        "Which target goes with which input makes no difference: the loss compares the inputs as "
        "a whole with the targets as a whole, as distances of distributions do.",
        bug=False,
        advice=_ON_PURPOSE,
    ),
    Verdict(
        "coupled",
        lambda e: e.mixes,
        "The loss compares the samples of a batch with one another, as contrastive losses "
        "(InfoNCE), triplet mining, ranking and statistics of the batch do.",
        bug=False,
        advice=_ON_PURPOSE,
    ),
    Verdict(
        "independent",
        lambda e: e.rescales,
        "Each sample meets its own target only. All that samples share is one factor, as that of "
        "a weighted mean or of the root of a mean.",
        bug=False,
    ),
    Verdict("independent", lambda e: True, "Each sample meets its own target only.", bug=False),
)


def verdict_on(probe: Probe, class_dim: int | None) -> tuple[Verdict, Evidence]:
    """The first row that applies, and what it was read off from."""
    evidence = measure(probe)
    if class_dim is not None:
        evidence = evidence._replace(class_axes=frozenset({class_dim % len(evidence.input)}))
    return next(verdict for verdict in VERDICTS if verdict.applies(evidence)), evidence


def fixes_for(
    verdict: Verdict, loss: AnyLoss, probe: Probe, class_dim: int | None
) -> tuple[str, ...]:
    """Of the edits, and of the losses, the first with which an audit finds nothing wrong."""
    safe = _safe_form(loss)
    fixes: list[str] = []
    for choices in (verdict.edits, verdict.losses):
        spelled = (choice.format(safe=safe) for choice in choices)
        fixes += itertools.islice((fix for fix in spelled if _mends(fix, probe, class_dim)), 1)
    return tuple(fixes)


def _mends(fix: str, probe: Probe, class_dim: int | None) -> bool:
    def fixed(input: Tensor, target: Tensor) -> object:
        return evaluate(fix, {"loss": probe.fresh(), "input": input, "target": target})

    with contextlib.suppress(Exception):  # whatever it raises, it is no fix
        verdict, _ = verdict_on(probe.of(fixed), class_dim)
        return verdict.kind == "independent"
    return False


def _safe_form(loss: AnyLoss) -> str:
    """The expression for our form of a native loss, with its options; empty if there is none."""
    name = getattr(loss, "__name__", "")
    if name and getattr(F, name, None) is loss and hasattr(functional, name):
        return f"safeloss.functional.{name}"
    if not isinstance(loss, nn.Module) or type(loss) not in SAFE or loss.state_dict():
        return ""
    default = SAFE[type(loss)]()
    constants: list[str] = getattr(loss, "__constants__", [])
    options = [
        f"{name}={getattr(loss, name)!r}"
        for name in constants
        if getattr(loss, name) != getattr(default, name)
    ]
    return f"{SAFE[type(loss)].__name__}({', '.join(options)})"
