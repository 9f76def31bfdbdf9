"""What the labels and lengths of `CTCLoss` must be, and whether the labels fit into the time steps.

Labels come padded, one row for each sample, or as one row of all samples; the lengths say which of
them count.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._contract.labels import are_among, listed
from safeloss._contract.model import Offer
from safeloss._contract.suspicions import Suspicion
from safeloss._contract.values import Rule, ValueContext


def as_lengths(value: Any) -> Tensor | None:
    """Lengths as PyTorch takes them (a tensor, integers, 0-d tensors); None for anything else."""
    try:
        return torch.as_tensor(value).reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        return None


def within(rows: Tensor, lengths: Tensor) -> Tensor:
    """True at the places of padded rows that lie before their end."""
    return torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]


class Labelling(Rule):
    """The labels of `CTCLoss`, of which the padding is never read."""

    code = codes.CTC_LABELS

    def __str__(self) -> str:
        return "must be class indices, none of them `blank`"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        counted = torch.ones_like(values, dtype=torch.bool)
        lengths = as_lengths(context.arguments.get("target_lengths"))
        if values.dim() > 1 and lengths is not None:
            counted = within(values, lengths.to(values.device))
        wrong = (values < 0) | context.beyond(values, "classes")
        if "blank" in context.options:
            wrong |= values == context.options["blank"]
        return counted & wrong

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        classes, blank = context.axes.get("classes"), context.options.get("blank")
        known = "" if classes is None else f"There are {classes} classes (0 to {classes - 1}), "
        return f"{known}and `blank` is {blank}. Not allowed: {listed(wrong)}." if known else ""

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        classes, blank = context.axes.get("classes"), context.options.get("blank")
        if blank == 0 and classes is not None and are_among(wrong, 0):
            if values.dim() > 1 and bool(((values[:, :-1] != 0) | (values[:, 1:] == 0)).all()):
                counted = "(targets != 0).sum(1)"
                yield Offer(
                    f"{{loss}}(log_probs, targets, input_lengths, {counted})",
                    "0 fills up the rows of `targets`",
                )
            yield Offer("{0} + 1", "labels count from 0, and class 0 of the model is the blank")
            yield Offer(
                f"{{loss}}(blank={classes - 1})", "the last class of the model is the blank"
            )


class WithinTime(Rule):
    code = codes.CTC_LENGTHS

    def __str__(self) -> str:
        return "must lie between 0 and the size of the time axis of `log_probs`"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        return (values < 0) | (
            context.beyond(values, "time") & (values != context.axes.get("time"))
        )

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        return f"The time axis has the size {context.axes['time']}."


class WithinTargets(Rule):
    code = codes.CTC_LENGTHS

    def __str__(self) -> str:
        return "must lie between 0 and the length of `targets`, or add up to it"

    def broken(self, values: Tensor, context: ValueContext) -> Tensor:
        targets = context.arguments.get("targets")
        if targets is None:
            return values < 0
        if targets.dim() > 1 or "batch" not in context.axes:
            return (values < 0) | (values > targets.shape[-1])
        return (values < 0) | (values.sum() != targets.shape[0])

    def numbers(self, name: str, values: Tensor, wrong: Tensor, context: ValueContext) -> str:
        targets = context.arguments["targets"]
        if targets.dim() > 1:
            return f"`targets` has room for {targets.shape[-1]} labels of each sample."
        return f"`targets` has {targets.shape[0]} labels, the lengths add up to {values.sum()}."

    def offers(
        self, values: Tensor, wrong: Tensor, context: ValueContext, axis: int
    ) -> Iterator[Offer]:
        yield Offer(
            "{loss}(log_probs, targets, target_lengths, input_lengths)",
            "the two lengths are in the wrong order",
        )


class Alignable(Suspicion):
    """CTC aligns a sequence of labels to the time steps: one for each label, and one more for the
    blank between two labels that are equal. Where there are fewer, the loss is infinite."""

    code = codes.CTC_TOO_SHORT
    least = 1

    def __str__(self) -> str:
        return "needs more time steps than the input has, so the loss is inf"

    def holds(self, values: Tensor, context: ValueContext) -> Tensor:
        needed, steps = self._needed(values, context)
        return (needed > steps).any()

    def said(self, values: Tensor, context: ValueContext) -> str:
        needed, steps = self._needed(values, context)
        short = (needed > steps).nonzero().flatten().tolist()
        if not short:
            return ""
        sample = short[0]
        return (
            f"needs {needed[sample]} time steps for sample {sample} (one for each label, and one "
            f"for the blank between two equal labels), but its input has only {steps[sample]}, so "
            "the loss is inf. Pass longer inputs, or set `zero_infinity=True` to leave out such "
            "samples"
        )

    def _needed(self, labels: Tensor, context: ValueContext) -> tuple[Tensor, Tensor]:
        """The time steps that each sample needs, and those that it has."""
        steps = as_lengths(context.arguments.get("input_lengths"))
        lengths = as_lengths(context.arguments.get("target_lengths"))
        if steps is None or lengths is None or context.options.get("zero_infinity"):
            return torch.zeros(1), torch.zeros(1)
        lengths = lengths.cpu()
        return lengths + self._repeats(labels.cpu(), lengths), steps.cpu()

    def _repeats(self, labels: Tensor, lengths: Tensor) -> Tensor:
        """How often a label follows itself, for each sample."""
        if labels.dim() > 1:
            equal = (labels[:, 1:] == labels[:, :-1]) & within(labels, lengths)[:, 1:]
            return equal.sum(1)
        samples = torch.repeat_interleave(lengths)
        equal = (labels[1:] == labels[:-1]) & (samples[1:] == samples[:-1])
        return torch.zeros_like(lengths).index_add_(0, samples[1:], equal.to(lengths.dtype))
