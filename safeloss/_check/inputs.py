"""What is checked of the step itself, of the head with its loss, and of the labels."""

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from safeloss._audit import Audit
from safeloss._check.batches import tensors
from safeloss._check.calls import Aspect, Verdict, of_error, one_output_softmax, verdicts
from safeloss._check.evidence import Evidence
from safeloss._check.line import MOST_NAMES, Line
from safeloss._check.recorder import LossCall
from safeloss._contract import codes
from safeloss._contract.labels import listed
from safeloss._messages.explain import describe
from safeloss.errors import SafeLossError

_FEWEST_TO_TELL = 4  # samples: of fewer, one kind of coupling looks like another
_FEWEST_LABELS = 16  # fewer say little of how often a class comes


# 1. The step, shapes and element types -----------------------------------------------------------


def step_runs(e: Evidence) -> Iterator[Line]:
    """The step gives a loss; a step that raises has no line here, but one of `check`."""
    title, value = "a training step runs", float(e.run.value.detach())
    words = f"`{e.program.form.words}` is {value:.4g}"
    if e.run.shape and math.prod(e.run.shape) > 1:
        yield Line(
            codes.STEP, "warn", title, f"{words} in the mean; it has shape {list(e.run.shape)}",
            "one number", "`backward()` needs one number: take the mean, `loss.mean()`.",
        )  # fmt: skip
    else:
        yield Line(codes.STEP, "pass", title, words)


def raised(words: str, calls: Sequence[LossCall], error: BaseException) -> Line:
    """The line of a step that raises."""
    first = (str(error).strip().splitlines() or [""])[0][:200]
    advice = "If model, batch and loss go together in another way, say how: "
    advice += "`step=lambda model, batch: ...`, which gives the loss."
    if any(verdict.certain for call in calls for verdict in verdicts(call, None)):
        advice = "See the lines below."
    seen = f"`{words}` raises {type(error).__name__}: {first}"
    return Line(codes.STEP, "fail", "a training step runs", seen, "a loss", advice)


def shapes_fit(e: Evidence) -> Iterator[Line]:
    """Predictions and targets, as the signature of the loss reads them."""
    title, expected = "predictions and targets fit together", "each prediction meets its own target"
    found = _verdicts(e, "fit")
    for call, verdict in found:
        came = "" if call is None else f"{_came(call)}. "
        past = "" if call is None else _past(e, call)
        yield _line(codes.FIT, title, f"{came}{verdict.rule}{past}", expected, verdict)
    if e.run_or_none is not None and not found:
        seen = "; ".join(dict.fromkeys(map(_came, e.calls))) or _shapes(e)
        yield Line(codes.FIT, "pass", title, seen)


def batch_stays(e: Evidence) -> Iterator[Line]:
    """Nobody writes into the batch."""
    title, changed = "the batch stays as it is", e.run.changed
    if not changed:
        yield Line(codes.BATCH_CHANGED, "pass", title, "nothing was written into it")
        return
    again = e.program.run(e.run.batch)
    matters = not math.isclose(float(e.run.value), float(again.value), rel_tol=1e-6)
    seen = f"the {'model' if changed == 'model' else 'step'} changes its tensors in place"
    effect = "a second step on it gives another loss" if matters else "a second step gives the same"
    yield Line(
        codes.BATCH_CHANGED,
        "fail" if changed == "model" or matters else "warn",
        title,
        f"{seen}: {effect}",
        "the numbers of the loader, at every epoch",
        "Write `x = x - mean`, not `x -= mean`; `inplace=True` not in the first layer.",
    )


def _came(call: LossCall) -> str:
    rows = [
        f"{entry.name} {describe(value.dtype, value.shape)}"
        for entry in call.signature.reader.inputs
        if isinstance(value := call.named[entry.name], Tensor)
    ]
    return f"{call.signature.native_name}: {', '.join(rows)}"


def _past(e: Evidence, call: LossCall) -> str:
    """Who gave the tensors their shapes, as far as that was seen."""
    pasts = []
    for name, value in call.named.items():
        steps = e.history.history(value) if isinstance(value, Tensor) else ()
        for step in steps[:1]:
            at = "" if step.line is None else f" at {step.line}"
            change = str(step._replace(line=None)).replace("  ", " by ")
            pasts.append(f" `{name}`: {change}{at}.")
    return "".join(pasts)


def mixes(audit: Audit | None, e: Evidence) -> bool:
    """Whether the loss is certain to score samples against what is not theirs."""
    certain = audit is not None and audit.kind in ("broadcast", "softmax over the batch")
    return certain and e.program.axis.size >= _FEWEST_TO_TELL


def _shapes(e: Evidence) -> str:
    outputs = [describe(t.dtype, t.shape) for t in tensors(e.run.outputs)][:MOST_NAMES]
    return f"outputs {', '.join(outputs)}" if outputs else "no loss of PyTorch's was called"


def _said(call: LossCall | None, verdict: Verdict) -> str:
    return verdict.rule if call is None else f"{call.signature.native_name}: {verdict.rule}"


def _verdicts(e: Evidence, aspect: Aspect) -> list[tuple[LossCall | None, Verdict]]:
    """What is wrong, each once; a loss of ours has said it itself, without a call of PyTorch's."""
    found: dict[tuple[str, str], tuple[LossCall | None, Verdict]] = {}
    if isinstance(e.error, SafeLossError) and (own := of_error(e.error)).aspect == aspect:
        found[own.code, own.rule] = None, own
    for call in e.calls:
        for verdict in verdicts(call, e.run_or_none, alone=e.program.axis.size == 1):
            if verdict.aspect != aspect:
                continue
            if verdict.broadcasts and not verdict.certain:
                verdict = verdict._replace(certain=e.run_or_none is not None and mixes(e.audit, e))
            found.setdefault((verdict.code, verdict.rule), (call, verdict))
    return list(found.values())


def _line(code: str, title: str, seen: str, expected: str, verdict: Verdict) -> Line:
    fix = f"Fix: `{verdict.fixes[0]}`." if verdict.fixes else ""
    more = f"`safeloss explain {verdict.code}` says more."
    advice = " ".join(filter(None, [verdict.advice, fix, more]))
    return Line(code, "fail" if verdict.certain else "warn", title, seen, expected, advice)


# 2. The head and the loss ------------------------------------------------------------------------


def head_fits(e: Evidence) -> Iterator[Line]:
    """What the last layer gives is what the loss takes."""
    title, expected = "the head gives what the loss takes", "the scores or probabilities it needs"
    found = _verdicts(e, "head")
    for call, verdict in found:
        yield _line(codes.HEAD, title, _said(call, verdict), expected, verdict)
    if e.run_or_none is None or found:
        return
    for call in e.calls if e.program.axis.dim == 0 else []:
        if text := one_output_softmax(call, e.run_or_none):
            advice = "A softmax belongs on the axis of the classes; one score takes a sigmoid."
            yield Line(codes.HEAD, "fail", title, text, "an axis of two classes or more", advice)
            return
    if e.calls:
        names = ", ".join(dict.fromkeys(call.signature.native_name for call in e.calls))
        yield Line(codes.HEAD, "pass", title, f"nothing stands between the head and {names}")


# 3. The labels -----------------------------------------------------------------------------------


def labels_are_legal(e: Evidence) -> Iterator[Line]:
    """The rules that the loss has for its targets."""
    title, found = "the labels follow the rules of the loss", _verdicts(e, "labels")
    for call, verdict in found:
        made_for = "labels that the loss is made for"
        yield _line(codes.LABELS, title, _said(call, verdict), made_for, verdict)
    targets = [call.target for call in e.calls if isinstance(call.target, Tensor)]
    if e.run_or_none is not None and not found and targets:
        numbers = targets[0].detach()
        seen = f"{describe(numbers.dtype, numbers.shape)}"
        whole = not numbers.is_floating_point() and not numbers.is_complex()
        yield Line(codes.LABELS, "pass", title, f"{seen}{f': {listed(numbers)}' if whole else ''}")


def labels_vary(e: Evidence) -> Iterator[Line]:
    """More than one class, or number: else nothing is there to be told apart."""
    title = "the labels of the batch differ"
    counted = counted_labels(e.main_call)
    if counted is None or counted.numel() < 2:
        return
    low, high = float(counted.min()), float(counted.max())
    if low != high:
        yield Line(codes.ALL_ALIKE, "pass", title, f"{counted.unique().numel()} different numbers")
        return
    call = e.main_call
    if call is not None and is_made(e, call):
        yield Line(codes.ALL_ALIKE, "pass", title, f"the step makes them: all are {low:g}")
        return
    yield Line(
        codes.ALL_ALIKE,
        "warn",
        title,
        f"all {counted.numel()} are {low:g}",
        "more than one class, or number",
        "Shuffle the loader (`shuffle=True`), or look for what makes the labels alike.",
    )


def classes_are_balanced(e: Evidence) -> Iterator[Line]:
    """How often the classes come, beside the weights that would balance them.

    The limit is half of chance: an answer that is the same for all, and knows only how often each
    class comes, then is more than half of the way to a loss of 0 without a look at the input.
    """
    title, call, counted = (
        "the classes come about equally often",
        e.main_call,
        counted_labels(e.main_call),
    )
    if call is None or counted is None or counted.numel() < _FEWEST_LABELS:
        return
    classes, counts = [each.tolist() for each in counted.unique(return_counts=True)]
    binary = call.signature.name.startswith("binary") and set(classes) <= {0.0, 1.0}
    if not (binary or not counted.is_floating_point()) or len(classes) < 2:
        return
    shares = [count / counted.numel() for count in counts]
    entropy, number = -sum(p * math.log(p) for p in shares), len(classes)
    most = max(shares)
    seen = f"{number} classes, the most frequent one {most:.0%}"
    if entropy >= math.log(number) / 2:
        yield Line(codes.IMBALANCE, "pass", title, seen)
        return
    if binary:
        weight = f"`pos_weight=torch.tensor({counts[0] / counts[1]:.3g})`"
    else:
        weights = [counted.numel() / (number * count) for count in counts]
        head = ", ".join(f"{w:.3g}" for w in weights[:MOST_NAMES])
        weight = f"`weight=torch.tensor([{head}{', ...' if number > MOST_NAMES else ''}])`"
    yield Line(
        codes.IMBALANCE,
        "warn",
        title,
        f"{seen}: always to answer that is right {most:.0%} of the time",
        "shares that leave something to learn",
        f"{weight} would balance this batch; look at more than the accuracy.",
    )


def counted_labels(call: LossCall | None) -> Tensor | None:
    """The targets that count."""
    if call is None or not isinstance(call.target, Tensor) or call.target.is_complex():
        return None
    numbers = call.target.detach()
    if not numbers.is_floating_point() and (ignored := call.named.get("ignore_index")) is not None:
        numbers = numbers[numbers != ignored]
    return numbers.flatten() if numbers.is_floating_point() else numbers.flatten().long()


def is_made(e: Evidence, call: LossCall) -> bool:
    """Whether the targets are not the loader's, as the ones of a generator are."""
    audit = e.audit
    return audit is None or not any(
        t.numel() == call.target.numel() for t in tensors(e.program.batch)
    )
