"""What the evidence means, one row per verdict, and what mends it."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from safeloss import functional
from safeloss._audit.evidence import Evidence
from safeloss._audit.experiments import calls, measure
from safeloss._audit.probing import AnyLoss, Probe, Samples
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
    "no gradient",
    "not finite",
    "untested",
    "unsteady",
]
UNDECIDED: tuple[Kind, ...] = ("no gradient", "not finite", "untested", "unsteady")


class Verdict(NamedTuple):
    """A row: what is seen in the evidence, what it is called, and what to do about it.

    `{n}` is the number of samples, `{read}` the axis along which classes are compared, `{axes}`
    those that may hold them, `{targets}` what the samples exchange, and `{input}` and `{target}`
    the names of the arguments. `edits` are other arguments for the call: an input and a target.
    `losses` take its place, for two arguments, `{safe}` being our form of a native loss. Of each
    the first is promised that an audit finds nothing wrong with.
    """

    kind: Kind
    applies: Callable[[Evidence], bool]
    words: str
    bug: bool = True
    advice: str = ""
    edits: tuple[tuple[str, str], ...] = ()
    losses: tuple[str, ...] = ()


_ALIGN = (
    ("{input}", "safeloss.align({target}, like={input})"),
    ("{input}", "{target}.view_as({input})"),
)
_LAST_AXIS = (("{input}", "{target}.unsqueeze(-1)"), ("{input}", "{target}.squeeze(-1)"))
_CLASSES_SECOND = (
    ("{input}.movedim(-1, 1)", "{target}"),
    ("{input}.movedim(-1, 1)", "{target}.movedim(-1, 1)"),
)
_SIGMOID = ("SafeBCEWithLogitsLoss()({input}, {target})",)
_WHERE_THEY_MEET = "In the loss, where the two meet: `safeloss.align({target}, like={input})`."
_ON_PURPOSE = (
    "If that is meant, the batch size is part of the loss: a smaller last batch, or gradient "
    "accumulation, changes what is learnt. If not, look for an operation along axis 0."
)


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
        lambda e: not (e.finite or e.multiplies),
        "No verdict: the loss or its gradient is NaN or infinite on these tensors.",
        bug=False,
        advice="A mean over nothing (every target ignored), a logarithm of 0 or of raw scores, or "
        "NaN in the data.",
    ),
    Verdict(
        "untested",
        lambda e: e.untested,
        "No verdict: the loss fails wherever one sample has the target of another.",
        bug=False,
        advice="Give tensors of which any target is legal for any sample.",
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
        "no gradient",
        lambda e: e.wakes,
        "No verdict: none of these inputs gets a gradient, though others would, as where all "
        "samples keep a margin.",
        bug=False,
        advice="Give tensors that the loss has something to say of.",
    ),
    Verdict(
        "flat",
        lambda e: e.flat,
        "No input gets a gradient, whatever its target and whatever it is: nothing is learnt.",
        advice="A constant, or an input that is not used.",
    ),
    Verdict(
        "softmax over the batch",
        _competes,
        "The softmax runs over the batch (axis 0): the samples compete with one another.",
        advice="A softmax belongs on the axis of the classes, and one score per sample takes a "
        "sigmoid. Items of a list that are meant to compete need a batch axis before theirs.",
        edits=(("{input}.movedim(0, 1)", "{target}"),),
        losses=_SIGMOID,
    ),
    Verdict(
        "broadcast",
        lambda e: e.by_target.mixes and e.by_target.crossed,
        "The target of sample j is used for element j of every sample: it lies along another axis "
        "that happens to have {n} elements too.",
        advice=_WHERE_THEY_MEET,
        edits=(*_ALIGN, ("{input}", "{target}.unsqueeze(-1).expand_as({input})")),
    ),
    Verdict(
        "broadcast",
        lambda e: e.pairs_by_accident or e.stretches,
        "Every input is scored against {targets} of all {n} samples, {n} x {n} pairs, as when "
        "[B, 1] meets [B] and both are stretched to [B, B].",
        advice=_WHERE_THEY_MEET,
        edits=(*_ALIGN, *_LAST_AXIS),
        losses=("{safe}({input}, {target})",),
    ),
    Verdict(
        "broadcast",
        lambda e: e.multiplies,
        "What belongs to one sample, such as its weight, is multiplied by the losses of all {n}, "
        "{n} x {n} products: every sample gets the mean of it.",
        advice="Where the two meet, give one the shape of the other: `safeloss.align(a, like=b)`.",
        edits=(*_ALIGN, *_LAST_AXIS),
        losses=("{safe}({input}, {target})",),
    ),
    Verdict(
        "broadcast",
        lambda e: e.stretches_all,
        "Every input is scored against every target, though there are {n} samples and another "
        "number of targets: both are stretched.",
        advice="Look for where one of the two lost samples: a filter, a last batch, a collate "
        "function.",
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
        lambda e: not e.mixes and e.spreads,
        "The samples do not mix, but one target serves all {n}: it has no axis of that size.",
        advice="If that is meant, say so by `{target}.expand_as({input})`.",
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
    Verdict(
        "independent",
        lambda e: e.by_target.matters,
        "Each sample meets its own target only.",
        bug=False,
    ),
    Verdict("independent", lambda e: True, "No sample does anything to another.", bug=False),
)


class Found(NamedTuple):
    """A verdict, what it was read off from, and with which argument in the target's place."""

    verdict: Verdict
    evidence: Evidence
    samples: Samples

    @property
    def severity(self) -> tuple[bool, int]:
        """Verdicts in the order of `VERDICTS`; with a target that does nothing, only if alone."""
        silent = self.verdict.kind == "independent" and not self.evidence.by_target.matters
        return silent, VERDICTS.index(self.verdict)


def verdict_on(probe: Probe, class_dim: int | None) -> Found:
    """The first row that applies, of all arguments that can be the target."""
    return min(_verdicts(probe, class_dim), key=lambda found: found.severity)


def _verdicts(probe: Probe, class_dim: int | None) -> Iterator[Found]:
    for samples in probe.samples.with_each_target():
        evidence = measure(probe, samples)
        if class_dim is not None:
            evidence = evidence._replace(class_axes=frozenset({class_dim % len(evidence.input)}))
        verdict = next(verdict for verdict in VERDICTS if verdict.applies(evidence))
        yield Found(verdict, evidence, samples)


def fixes_for(
    found: Found, names: Sequence[str], loss: AnyLoss, probe: Probe, class_dim: int | None
) -> tuple[str, ...]:
    """Of the edits, and of the losses, the first with which an audit finds nothing wrong."""
    roles = {"input": names[0], "target": names[found.samples.place + 1]}
    edits = [
        f"loss({', '.join(_edited(names, found.samples.place, edit, roles))})"
        for edit in found.verdict.edits
    ]
    safe = _safe_form(loss)
    losses = [
        each.format(safe=safe, **roles)
        for each in found.verdict.losses
        if len(names) == 2 and (safe or "{safe}" not in each)
    ]
    fixes: list[str] = []
    for choices in (edits, losses):
        works = (fix for fix in choices if _mends(fix, names, probe, class_dim))
        fixes += itertools.islice(works, 1)
    return tuple(fixes)


def _edited(
    names: Sequence[str], place: int, edit: tuple[str, str], roles: Mapping[str, str]
) -> list[str]:
    """The arguments of the call, two of them changed."""
    first, target = (each.format(**roles) for each in edit)
    return [first, *names[1 : place + 1], target, *names[place + 2 :]]


def _mends(fix: str, names: Sequence[str], probe: Probe, class_dim: int | None) -> bool:
    def fixed(*arguments: Tensor) -> object:
        return evaluate(fix, {"loss": probe.fresh(), **dict(zip(names, arguments))})

    probe.expect(calls(probe.samples))
    with contextlib.suppress(Exception):  # whatever it raises, it is no fix
        found = verdict_on(probe.of(fixed), class_dim)
        return found.verdict.kind == "independent" and not found.verdict.bug
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
