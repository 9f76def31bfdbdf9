"""`audit`, for any loss: what does one sample of a batch do to the others?"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safeloss._audit import pictures
from safeloss._audit.evidence import Evidence, Point
from safeloss._audit.experiments import calls, other_targets
from safeloss._audit.probing import (
    AnyLoss,
    Generators,
    Probe,
    Samples,
    argument_rows,
    isolated,
    name_of,
    names_of,
    refused,
)
from safeloss._audit.verdicts import UNDECIDED, Kind, Verdict, fixes_for, verdict_on
from safeloss._progress import Progress
from safeloss._torch import readable
from safeloss.errors import Argument

_MOST_SAMPLES = 64  # each is changed twice, at one backward pass a time
_FEWEST_SAMPLES = 4  # of a large batch, however large each of them is
_MOST_NUMBERS = 2**22  # of input, in those passes together
_FEWEST_TO_TELL = 4  # samples: of fewer, one kind of coupling looks like another
_GROWS = 0.5  # the power of the batch size from which a loss is said to outgrow its samples


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What was found out about a loss: print it, show it in a notebook, or `save` it.

    `influence[i, j]` says how far the gradient of input i moves when sample j gets the target of
    another sample, as a share of the largest: diagonal when healthy. `input_influence` says the
    same of input j, and stands in for it where no target matters. `reduction` is what the loss of
    a batch is of the losses of its samples ("mean", "sum", "weighted mean", or None), `curve` has
    a `Point` per batch size, and `growth` is the power of the batch size by which the loss
    outgrows theirs. `bug` is the verdict in short: samples may be coupled on purpose, and a loss
    may be wrong without mixing any.
    """

    loss: str
    arguments: tuple[Argument, ...]
    kind: Kind
    verdict: str
    bug: bool
    independent: bool
    influence: Tensor
    input_influence: Tensor
    per_sample_shape: tuple[int, ...] | None
    reduction: str | None
    curve: tuple[Point, ...]
    growth: float | None
    advice: str
    fixes: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return pictures.text(self)

    def _repr_html_(self) -> str:
        return pictures.fragment(self)

    def save(self, path: str | Path) -> None:
        """Write the report as one self-contained page (`.html`) or as a picture (`.png`).

        Raises:
            ValueError: a path that ends otherwise.
            ModuleNotFoundError: a picture, and matplotlib is not installed.
        """
        pictures.writer(Path(path))(self, Path(path))


def audit(
    loss: AnyLoss, input: Tensor, target: Tensor, *others: Tensor, class_dim: int | None = None
) -> Audit:
    """Find out by trying whether `loss(input, target)` mixes the samples of a batch.

    Any callable will do; axis 0 of `input` counts the samples. Each sample in turn gets the target
    of another, and then another input, and what that does to the gradients of the rest tells an
    accidental broadcast, a softmax over the batch and a wrong class axis from a loss that couples
    samples on purpose. A loss of more arguments (a siamese or a triplet loss, weights) gets
    `others` too, and each of them in turn is what the samples exchange. Nothing of the caller's
    changes. `class_dim` says which axis of `input` holds the classes, where its sizes leave that
    open.

    Raises:
        SafeLossError: the loss fails on these tensors (its own error is the cause), or there
            are fewer than 2 samples.
        ArgumentTypeError: an argument that is no tensor.
        ValueError: a `class_dim` that `input` does not have.

    >>> import torch.nn.functional as F
    >>> report = audit(F.multilabel_soft_margin_loss, torch.randn(8, 1), torch.rand(8))
    >>> report.independent, report.kind, report.fixes[0]
    (False, 'broadcast', 'loss(input, safeloss.align(target, like=input))')
    >>> audit(F.cross_entropy, torch.randn(8, 3), torch.arange(8) % 3).independent
    True
    """
    name, names = name_of(loss), names_of(loss, 2 + len(others))
    arguments = dict(zip(names, (input, target, *others)))
    if not all(isinstance(argument, Tensor) for argument in arguments.values()):
        raise refused(name, "an audit takes two tensors or more.", arguments)
    if not readable(arguments.values()):
        raise refused(name, "there are no numbers to look at.", arguments)
    if not input.is_floating_point():
        raise refused(name, f"only a floating `{names[0]}` has gradients to look at.", arguments)
    if not input.dim() or len(input) < 2:
        raise refused(name, "an audit takes at least 2 samples, on axis 0.", arguments)
    if class_dim is not None and not -input.dim() <= class_dim < input.dim():
        raise ValueError(f"`class_dim` is {class_dim}, and `input` has {input.dim()} axes")
    generators = Generators(input.device)
    given = _as_given(*(argument.detach() for argument in arguments.values()))
    few = _few(given)
    with isolated(loss, generators) as warned, Progress("audit", calls(few)) as progress:
        try:
            probe = Probe(loss, few, generators, progress)
        except Exception as error:  # whatever a loss raises
            part = f" on {few.size} of the {given.size} samples" if few.size < given.size else ""
            rule = f"it cannot be audited{part}, since it fails: {_first_line(error)}"
            raise refused(name, rule, arguments) from error
        said = dict.fromkeys(f"It warns: {_first_line(warning.message)}" for warning in warned)
        varied = tuple(_varied(probe))
        found = verdict_on(probe, class_dim)
        fixes = fixes_for(found, names, loss, probe, class_dim)
    verdict, evidence, samples = found
    by_target, by_input = _shares(evidence.by_target.full), _shares(evidence.by_input.full)
    alone = evidence.alone
    words = {
        "n": few.size,
        "read": _listed(evidence.read - {0}),
        "axes": _listed(evidence.class_axes),
        "input": names[0],
        "target": names[samples.place + 1],
        "targets": f"the `{names[samples.place + 1]}`" if others else "the targets",
    }
    exchanged = [f"The samples exchanged `{words['target']}`."] if others else []
    independent = not (evidence.mixes or verdict.kind in ("broadcast", *UNDECIDED))
    return Audit(
        loss=name,
        arguments=argument_rows(arguments),
        kind=verdict.kind,
        verdict=verdict.words.format(**words),
        bug=verdict.bug,
        independent=independent,
        influence=by_target if evidence.by_target.matters else by_input,
        input_influence=by_input,
        per_sample_shape=evidence.unreduced,
        reduction=alone.reduction if alone is not None and independent else None,
        curve=evidence.curve,
        growth=evidence.growth,
        advice=verdict.advice.format(**words),
        fixes=fixes,
        notes=(*exchanged, *_notes(verdict, evidence, probe, given), *varied, *said),
    )


def _as_given(input: Tensor, *others: Tensor) -> Samples:
    """The batch, with the first axis of every argument that may count its samples."""
    axes = [
        next((axis for axis, size in enumerate(other.shape) if size == len(input)), None)
        for other in others
    ]
    return Samples(input, others[0], axes[0], tuple(zip(others[1:], axes[1:])))


def _few(samples: Samples) -> Samples:
    """As many samples as can be tried in seconds, from all of the batch."""
    numbers = max(1, samples.input[0].numel())
    most = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, math.isqrt(_MOST_NUMBERS // numbers)))
    n = samples.size
    return samples if n <= most else samples.take([k * n // most for k in range(most)])


def _varied(probe: Probe) -> Iterator[str]:
    """Make samples differ that are all alike: they cannot show what one does to another."""
    samples = probe.samples
    if _all_alike(samples.input):
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(samples.input.shape, generator=generator, device="cpu")
        noisy = samples.input + (noise / 5 - 0.1).to(samples.input)
        if probe.switch_to(samples._replace(input=noisy)):
            yield "All inputs were alike: noise was added to them."
    for turn in range(len(samples.with_each_target())):
        samples = probe.samples.with_each_target()[turn]
        if samples.axis is not None and _all_alike(samples.targets()):
            targets, others = (
                samples.targets().clone(),
                other_targets(samples).movedim(samples.axis, 0),
            )
            targets[1::2] = others[1::2]
            changed = samples._replace(target=targets.movedim(0, samples.axis))
            if probe.switch_to(changed.in_order()):
                yield "All targets were alike: every other one was changed."


def _all_alike(rows: Tensor) -> bool:
    return bool((rows == rows[:1]).all())


def _shares(influence: Tensor) -> Tensor:
    largest = influence.max()
    return influence / largest if largest > 0 else influence


def _notes(verdict: Verdict, evidence: Evidence, probe: Probe, given: Samples) -> Iterator[str]:
    """What a reader must know beside the verdict."""
    if evidence.mixes or verdict.kind == "broadcast":
        crossed = evidence.crossings.of_samples or evidence.crossings.all
        yield from [str(crossing) for crossing in crossed if crossing.counts][:1]
    if probe.returned:
        yield f"It gives {probe.returned}, of which the loss was looked at."
    n, by_target, growth = probe.samples.size, evidence.by_target, evidence.growth
    if n < given.size:
        yield f"{n} of the {given.size} samples were looked at."
    if probe.draws:
        yield "It draws random numbers: every call here began from the same state."
    if not (probe.steady and evidence.finite):
        return
    if n < _FEWEST_TO_TELL:
        yield f"{n} samples show little: give 8 or more."
    if by_target.refused:
        yield f"It failed with the targets of {by_target.refused} samples exchanged."
    if not (by_target.matters or evidence.shared):
        yield "No change of a target made a difference."
    elif not (by_target.full.any() or evidence.shared):
        yield "No change of a target changed a gradient; with other inputs it might."
    if evidence.alone is None:
        yield "It does not take a batch of one."
    if evidence.mixes and growth is not None and growth > _GROWS:
        yield f"It outgrows the losses of its samples, like B^{growth:.1f}."


def _listed(axes: frozenset[int]) -> str:
    return " or ".join(map(str, sorted(axes)))


def _first_line(error: object) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else ''}"
