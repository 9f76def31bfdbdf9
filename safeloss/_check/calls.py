"""What our signatures say of a call of PyTorch's: its layout, its head, its labels."""

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from safeloss._check.program import Run
from safeloss._check.recorder import LossCall
from safeloss._contract import codes
from safeloss._contract.activations import Origin, origin
from safeloss._contract.model import Call, Refusal
from safeloss._contract.suspicions import suspicions
from safeloss._contract.values import ValueContext
from safeloss._guard import native
from safeloss._runtime.accepted import Accepted
from safeloss._runtime.refusals import refusal_of
from safeloss._runtime.validate import verify_values
from safeloss._torch import readable, unobserved
from safeloss.errors import AmbiguousLayoutError, SafeLossError, ValueRangeError

_MANY = 8  # samples

Aspect: TypeAlias = Literal["fit", "head", "labels"]

_HEAD = {
    codes.ONE_SCORE,
    codes.ONE_CLASS,
    codes.NO_PROBABILITIES,
    codes.NO_LOG_PROBABILITIES,
    codes.DOUBLE_ACTIVATION,
    codes.NORMALISED_AXIS,
}
_MODULES: dict[type[nn.Module], str] = {
    nn.Sigmoid: "sigmoid",
    nn.LogSigmoid: "log-sigmoid",
    nn.Softmax: "softmax",
    nn.LogSoftmax: "log-softmax",
}


class Verdict(NamedTuple):
    """Something that is wrong with a call."""

    aspect: Aspect
    certain: bool  # else other evidence must say whether it is wrong
    code: str  # of the loss's own message
    rule: str  # what is wrong, in a sentence
    fixes: tuple[str, ...] = ()
    advice: str = ""
    broadcasts: bool = False  # wrong only if samples meet the targets of others


def of_error(error: SafeLossError) -> Verdict:
    """What a loss of ours has refused by itself."""
    labels = isinstance(error, ValueRangeError)
    aspect: Aspect = "head" if error.code in _HEAD else "labels" if labels else "fit"
    return Verdict(aspect, True, error.code, _sentence(error), tuple(error.fixes), error.advice)


def verdicts(call: LossCall, run: Run | None, *, alone: bool = False) -> Iterator[Verdict]:
    """What is wrong with a call of a loss; `run` is the step that it belongs to, if that ran.

    `alone` says that the batch has one sample: then what more of them would do is looked at, too.
    """
    with unobserved():
        understood = native.call(call.signature, call.named, None)
        if understood is None:
            return
        decision = call.signature.decide(understood)
    if isinstance(decision, Refusal):
        error = refusal_of(call.signature, None, understood, decision, call.named)
        yield _refused(call, error, weak=decision.weak)
        return
    misread = native.verdict(call.signature, understood)
    if isinstance(misread, Refusal):
        callee = native.callee(call.signature, None)
        error = native.explained(call.signature, callee, understood, misread)
        yield _refused(call, error, weak=False)
    elif alone and (hidden := _hidden(call, understood)):
        yield hidden
    accepted = Accepted(call.signature, None, call.named, understood, *decision)
    yield from _values(call, accepted, run)
    yield from _doubts(call, accepted, run)


def _hidden(call: LossCall, understood: Call) -> Verdict | None:
    """What a batch of one hides: `[1, 1]` and `[1]` become `[8, 1]` and `[8]`."""
    larger = {n: (_MANY, *shape[1:]) if shape[:1] == (1,) else shape
              for n, shape in understood.shapes.items()}  # fmt: skip
    with unobserved():
        misread = native.verdict(call.signature, understood._replace(shapes=larger))
    if not isinstance(misread, Refusal):
        return None
    shapes = " and ".join(str(list(shape)) for shape in larger.values())
    rule = f"With {_MANY} samples the shapes would be {shapes}. {misread.rule}"
    return Verdict("fit", False, misread.code, rule)


def _refused(call: LossCall, error: SafeLossError, *, weak: bool) -> Verdict:
    raised = call.result is None
    one = error.code in (codes.ONE_SCORE, codes.ONE_CLASS)
    unclear = weak or isinstance(error, AmbiguousLayoutError)
    return Verdict(
        "head" if error.code in _HEAD else "fit",
        certain=raised or one,
        code=error.code,
        rule=_sentence(error),
        fixes=tuple(error.fixes),
        advice=error.advice,
        broadcasts=not unclear,
    )


def _sentence(error: SafeLossError) -> str:
    return error.rule[:1].upper() + error.rule[1:]


def _values(call: LossCall, accepted: Accepted, run: Run | None) -> Iterator[Verdict]:
    """Numbers that break a rule of the loss, and count."""
    signature = call.signature
    try:
        with torch.no_grad():
            verify_values(accepted, ask=False)
        return
    except ValueRangeError as raised:
        error = raised
    seen = accepted.context
    with torch.no_grad():
        broken = accepted.broken()
    masks: list[Tensor | None] = [found.mask for found in broken.values()]
    counts = run is None or any(_counts(call, mask, run) for mask in masks or [None])
    if not counts:
        return
    narrow = error.code == codes.CLASS_INDEX and _is_narrow(seen, signature.reader.target)
    head = error.code in _HEAD and signature.names[0] in broken
    rule, largest = _sentence(error), 0
    if narrow:
        classes = seen.axes["classes"]
        largest = int(seen.arguments[signature.reader.target].max())
        rule = f"The head has {classes} outputs, and the labels go up to {largest}: {rule}"
    yield Verdict(
        "head" if narrow or head else "labels",
        certain=True,
        code=error.code,
        rule=rule,
        fixes=() if narrow else tuple(error.fixes),
        advice=f"Give the last layer {largest + 1} outputs." if narrow else error.advice,
    )


def _is_narrow(seen: ValueContext, target: str) -> bool:
    """Whether the labels are as they should be, and more than the classes of the head."""
    labels, classes = seen.arguments[target], seen.axes.get("classes")
    if classes is None or not labels.numel():
        return False
    counted = labels if seen.ignored is None else labels[labels != seen.ignored]
    low, high = int(counted.min()), int(counted.max())
    # Labels from 1 to C are as many as the classes; past that no other way of counting fits.
    return low == 0 and high >= classes and high != 255


def _counts(call: LossCall, mask: Any, run: Run) -> bool:
    """Whether numbers that break a rule have a part in the loss: where they are masked out later,
    or weigh nothing, the gradient there is exactly 0."""
    if not run.value.requires_grad or not isinstance(call.input, Tensor):
        return True
    if not call.input.requires_grad:
        return False  # nothing is trained by it
    (gradient,) = torch.autograd.grad(run.value, call.input, retain_graph=True, allow_unused=True)
    if gradient is None:
        return False
    weights = gradient != 0
    if mask is None or mask.shape == weights.shape:
        return bool((weights & mask).any() if mask is not None else weights.any())
    if mask.dim() == weights.dim() - 1 and weights.dim() > 1:
        rows = weights.any(1)
        if rows.shape == mask.shape:
            return bool((rows & mask).any())
    try:
        return bool((weights & mask).any())
    except RuntimeError:  # the two cannot be compared
        return bool(weights.any())


def _doubts(call: LossCall, accepted: Accepted, run: Run | None) -> Iterator[Verdict]:
    """An activation too many, by the graph, by the module that made the input, or by numbers."""
    name = call.signature.names[0]
    values = call.named[name]
    if not (isinstance(values, Tensor) and readable([values])):
        return
    rules, classes = accepted.patterns[name].rules, accepted.class_axis(name)
    with torch.no_grad():
        told = suspicions(values, rules, accepted.context._replace(classes=classes)).texts
    texts = [(doubt.code, text) for doubt, text in told if doubt.code in _HEAD]
    known = origin(values, classes).known
    if not texts and not known and run is not None and (made := run.made.get(id(values))):
        by_module = _origin_of(made[1], values, classes)
        for doubt in rules:
            if by_module and hasattr(doubt, "traced") and (text := doubt.traced(by_module)):
                texts, known = [(doubt.code, text)], True
    for code, text in texts:
        rule = f"`{name}` {text}."
        yield Verdict("head", certain=known, code=code, rule=rule)


def _origin_of(module: nn.Module, values: Tensor, classes: int | None) -> Origin | None:
    """The activation that a module is."""
    activation = _MODULES.get(type(module))
    axis = getattr(module, "dim", None)
    if activation is None:
        return None
    if axis is None:
        return Origin(True, activation)
    axis %= max(values.dim(), 1)
    return Origin(True, activation, axis, None if classes is None else axis == classes)


def one_output_softmax(call: LossCall, run: Run) -> str:
    """What to say where the predictions are a softmax over one number, which is 1."""
    values = call.input
    if not isinstance(values, Tensor) or not values.dim():
        return ""
    made = run.made.get(id(values))
    known = origin(values, None)
    if not known.known and made is not None:
        known = _origin_of(made[1], values, None) or known
    if re.search("softmax$", known.activation) and known.axis is not None:
        if known.axis < values.dim() and values.shape[known.axis] == 1:
            return f"The softmax runs over axis {known.axis}, which has one number: it is always 1."
        if known.axis == 0 and values.dim() > 1 and len(values) > 1:
            return "The softmax runs over axis 0, the samples of the batch."
    return ""
