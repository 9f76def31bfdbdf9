"""The checks, in the order of the report: each a small function that yields its lines."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor, nn

from safeloss._audit import Audit
from safeloss._check.batches import tensors
from safeloss._check.calls import Aspect, Verdict, of_error, one_output_softmax, verdicts
from safeloss._check.evidence import STEPS, Evidence
from safeloss._check.program import evaluating, norm
from safeloss._check.recorder import LossCall
from safeloss._contract import codes
from safeloss._contract.labels import listed
from safeloss._messages.explain import describe
from safeloss.errors import SafeLossError

Status: TypeAlias = Literal["pass", "warn", "fail"]

_FEWEST_TO_TELL = 4  # samples: of fewer, one kind of coupling looks like another
_FEWEST_LABELS = 16  # fewer say little of how often a class comes
_FAR = 2.0  # times
_FAR_OFF = 10.0  # ... where the scale is not known
_MOST_NAMES = 4


class Line(NamedTuple):
    """One check: what was seen, what was expected, and what to do."""

    code: str  # `safeloss explain SL401` explains it
    status: Status
    title: str
    seen: str
    expected: str = ""
    advice: str = ""


Check: TypeAlias = Callable[[Evidence], Iterator[Line]]


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
    if e.ran is not None and not found:
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


def _shapes(e: Evidence) -> str:
    outputs = [describe(t.dtype, t.shape) for t in tensors(e.run.outputs)][:_MOST_NAMES]
    return f"outputs {', '.join(outputs)}" if outputs else "no loss of PyTorch's was called"


def _said(call: LossCall | None, verdict: Verdict) -> str:
    return verdict.rule if call is None else f"{call.signature.native_name}: {verdict.rule}"


def _verdicts(e: Evidence, aspect: Aspect) -> list[tuple[LossCall | None, Verdict]]:
    """What is wrong, each once; a loss of ours has said it itself, without a call of PyTorch's."""
    found: dict[tuple[str, str], tuple[LossCall | None, Verdict]] = {}
    if isinstance(e.error, SafeLossError) and (own := of_error(e.error)).aspect == aspect:
        found[own.code, own.rule] = None, own
    for call in e.calls:
        for verdict in verdicts(call, e.ran, alone=e.program.axis.size == 1):
            if verdict.aspect != aspect:
                continue
            if verdict.broadcasts and not verdict.certain:
                verdict = verdict._replace(certain=e.ran is not None and _mixes(e.audit, e))
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
    if e.ran is None or found:
        return
    for call in e.calls if e.program.axis.dim == 0 else []:
        if text := one_output_softmax(call, e.ran):
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
    if e.ran is not None and not found and targets:
        numbers = targets[0].detach()
        seen = f"{describe(numbers.dtype, numbers.shape)}"
        whole = not numbers.is_floating_point() and not numbers.is_complex()
        yield Line(codes.LABELS, "pass", title, f"{seen}{f': {listed(numbers)}' if whole else ''}")


def labels_vary(e: Evidence) -> Iterator[Line]:
    """More than one class, or number: else nothing is there to be told apart."""
    title = "the labels of the batch differ"
    counted = _counted(e.main_call)
    if counted is None or counted.numel() < 2:
        return
    low, high = float(counted.min()), float(counted.max())
    if low != high:
        yield Line(codes.ALL_ALIKE, "pass", title, f"{counted.unique().numel()} different numbers")
        return
    call = e.main_call
    if call is not None and _is_made(e, call):
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
        _counted(e.main_call),
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
        head = ", ".join(f"{w:.3g}" for w in weights[:_MOST_NAMES])
        weight = f"`weight=torch.tensor([{head}{', ...' if number > _MOST_NAMES else ''}])`"
    yield Line(
        codes.IMBALANCE,
        "warn",
        title,
        f"{seen}: always to answer that is right {most:.0%} of the time",
        "shares that leave something to learn",
        f"{weight} would balance this batch; look at more than the accuracy.",
    )


def _counted(call: LossCall | None) -> Tensor | None:
    """The targets that count."""
    if call is None or not isinstance(call.target, Tensor) or call.target.is_complex():
        return None
    numbers = call.target.detach()
    if not numbers.is_floating_point() and (ignored := call.named.get("ignore_index")) is not None:
        numbers = numbers[numbers != ignored]
    return numbers.flatten() if numbers.is_floating_point() else numbers.flatten().long()


def _is_made(e: Evidence, call: LossCall) -> bool:
    """Whether the targets are not the loader's, as the ones of a generator are."""
    audit = e.audit
    return audit is None or not any(
        t.numel() == call.target.numel() for t in tensors(e.program.batch)
    )


# 4. The loss at the start ------------------------------------------------------------------------


def loss_begins_near_chance(e: Evidence) -> Iterator[Line]:
    """The first loss beside that of answers that do not look at the input.

    Twice of that is the limit for classes: an answer that is wrong beyond it is as sure of what is
    wrong as it could be of what is right. For numbers it is ten times: with nine tenths of the
    loss, training learns where the targets lie, before it learns in what they differ.
    """
    title, levels, counted = "the loss begins near chance", e.levels, _counted(e.main_call)
    if levels is None or e.main_call is None or counted is None:
        return
    if bool((counted == counted[:1]).all()) and _is_made(e, e.main_call):
        return  # the ones of a generator's step say nothing of chance
    chance = f"{levels.chance:.4g} ({levels.words}) is chance; " if levels.chance else ""
    expected = f"{chance}{levels.constant:.4g} is the best answer that is the same for all"
    seen = f"{levels.now:.4g}"
    far = _FAR if levels.chance is not None else _FAR_OFF
    if levels.now <= far * levels.blind or levels.blind <= 0:
        yield Line(codes.START, "pass", title, seen, expected)
    elif levels.chance is None:
        advice = "Bring the targets to mean 0 and standard deviation 1, "
        advice += f"or give the last bias their mean ({levels.targets})." if levels.targets else "."
        yield Line(codes.START, "warn", title, seen, expected, advice)
    else:
        advice = "The scores are large before anything is learnt: look for inputs that are not "
        advice += "normalised, weights that are too large, or a factor before the loss."
        yield Line(codes.START, "warn", title, seen, expected, advice)


# 5. Samples and one another ----------------------------------------------------------------------


def samples_do_not_mix(e: Evidence) -> Iterator[Line]:
    """What the target of one sample does to the gradients of the others."""
    title, audit, expected = "each sample meets its own target", e.audit, "no influence on others"
    if audit is None or audit.kind in ("no gradient", "not finite", "untested", "unsteady", "flat"):
        return
    if _mixes(audit, e):
        fixes = [f"Fix: `{fix}`." for fix in audit.fixes[:1]]
        advice = " ".join([audit.advice, *fixes])
        notes = "".join(f" {note}" for note in audit.notes if "stretched" in note)
        yield Line(codes.MIXED, "fail", title, f"{audit.verdict}{notes}", expected, advice)
    elif audit.kind == "wrong class axis" or (audit.bug and audit.kind != "shared target"):
        few = f" ({e.program.axis.size} samples show little)" if e.program.axis.size < 4 else ""
        yield Line(codes.MIXED, "warn", title, audit.verdict + few, expected, audit.advice)
    else:
        yield Line(codes.MIXED, "pass", title, audit.verdict)


def _mixes(audit: Audit | None, e: Evidence) -> bool:
    """Whether the loss is certain to score samples against what is not theirs."""
    certain = audit is not None and audit.kind in ("broadcast", "softmax over the batch")
    return certain and e.program.axis.size >= _FEWEST_TO_TELL


def model_does_not_mix(e: Evidence) -> Iterator[Line]:
    """What another sample does to the outputs for the rest, in evaluation mode."""
    title, mixed = "the model looks at each sample alone", e.mixed_by_the_model()
    if mixed is None:
        return
    if not mixed:
        yield Line(codes.MODEL_MIXES, "pass", title, "another sample changes no output of the rest")
        return
    yield Line(
        codes.MODEL_MIXES,
        "warn",
        title,
        "in evaluation mode, another first sample changes the outputs of the rest",
        "outputs that depend on their own sample",
        "Graphs and contrastive models mean it. Else look for `batch_first=True`, a `view` or a "
        "`reshape` across the batch, or a softmax over axis 0. Samples on another axis: "
        "`batch_dim=`.",
    )


# 6. Gradients ------------------------------------------------------------------------------------


def gradients_reach(e: Evidence) -> Iterator[Line]:
    """A backward pass comes to the parameters that are to be trained."""
    title, gradients = "gradients reach the parameters", e.gradients
    total = len(gradients)
    missing = [name for name, gradient in gradients.items() if gradient is None]
    if len(missing) == total and e.strangers:
        held = _held(e)
        status: Status = "pass" if any(id(leaf) in held for leaf in e.strangers) else "warn"
        yield Line(
            codes.UNREACHED, status, title, "none of the model, but tensors that it does not hold",
            "parameters of the model", "Give the optimizer, to say that these are to be trained.",
        )  # fmt: skip
    elif not total:
        yield Line(
            codes.UNREACHED, "fail", title, "no parameter requires a gradient",
            "at least one", "Something has set `requires_grad=False` for all of them.",
        )  # fmt: skip
    elif len(missing) == total:
        yield Line(
            codes.UNREACHED,
            "fail",
            title,
            f"none of {total} parameters" + ("" if e.run.value.requires_grad else ": no graph"),
            "all of them",
            "Look for `detach()`, `no_grad()`, `.item()`, `.data`, `argmax`, a comparison, or "
            "`torch.tensor(loss)` between the model and the loss.",
        )
    elif missing:
        yield Line(
            codes.UNREACHED, "warn", title, f"not {_names(missing)}", f"all {total}",
            "Layers that the loss does not use do not learn; freeze them if that is meant.",
        )  # fmt: skip
    else:
        yield Line(codes.UNREACHED, "pass", title, f"all {total} of them")


def optimizer_holds_them(e: Evidence) -> Iterator[Line]:
    """The optimizer has the parameters that the gradients reach."""
    given, title = e.program.given_optimizer, "the optimizer has these parameters"
    if given is None:
        return
    held = _held(e)
    own = e.program.given_parameters()
    reached = {name for name, gradient in e.gradients.items() if gradient is not None}
    left = [name for name, p in own.items() if id(p) not in held and name in reached]
    common = [name for name, p in own.items() if id(p) in held and name in reached]
    if not common and any(id(leaf) in held for leaf in e.strangers):
        yield Line(codes.OPTIMIZER, "pass", title, "tensors that the model does not hold")
    elif not common and (reached or not any(id(p) in held for p in own.values())):
        yield Line(
            codes.OPTIMIZER, "fail", title, "none of those that the gradients reach",
            "the parameters of this model",
            "Make the optimizer after the model, from `model.parameters()`: a model that was made "
            "anew, copied or replaced has other parameters.",
        )  # fmt: skip
    elif left:
        yield Line(
            codes.OPTIMIZER, "warn", title, f"not {_names(left)}", f"all {len(own)}",
            "Give it `model.parameters()`; set `requires_grad=False` for those that stay.",
        )  # fmt: skip
    else:
        yield Line(codes.OPTIMIZER, "pass", title, f"all {len(common)}")


def _held(e: Evidence) -> set[int]:
    """What the optimizer has, by `id`."""
    given = e.program.given_optimizer
    groups = [] if given is None else given.param_groups
    return {id(p) for group in groups for p in group["params"]}


def gradients_are_finite(e: Evidence) -> Iterator[Line]:
    """No NaN, no inf."""
    title = "the loss and its gradients are finite"
    value = float(e.run.value.detach())
    wrong = [n for n, g in e.gradients.items() if g is not None and not bool(g.isfinite().all())]
    if math.isfinite(value) and not wrong:
        length = norm(list(e.gradients.values()))
        yield Line(codes.NOT_FINITE_GRADIENT, "pass", title, f"gradient norm {length:.4g}")
        return
    floating = [t for t in tensors(e.program.batch) if t.is_floating_point()]
    broken = any(not bool(t.isfinite().all()) for t in floating)
    yield Line(
        codes.NOT_FINITE_GRADIENT,
        "fail",
        title,
        f"loss {value:.4g}" + (f"; NaN or inf in the gradient of {_names(wrong)}" if wrong else ""),
        "numbers",
        ("The batch itself holds NaN or inf. " if broken else "")
        + "Look for a logarithm or a root of 0, a division by 0, NaN in the inputs or targets, a "
        "mean over nothing, or half precision past 65504.",
    )


def gradients_are_alive(e: Evidence) -> Iterator[Line]:
    """No parameter has a gradient of 0 at the start and in the training on the batch."""
    reached = [name for name, g in e.gradients.items() if g is not None]
    if not reached:
        return
    zero = [name for name in reached if name not in e.alive]
    if zero and zero != reached and not e.program.late:
        assert e.fits is not None  # it trains, and sees which of them wake up
        zero = [name for name in reached if name not in e.alive]
    title = "no gradient is 0"
    if not zero:
        yield Line(codes.ZERO_GRADIENT, "pass", title, f"{len(reached)} parameters have one")
        return
    few = "all parameters" if len(zero) == len(reached) else _names(zero)
    yield Line(
        codes.ZERO_GRADIENT,
        "warn",
        title,
        f"exactly 0 for {few}",
        "a gradient in each",
        "Look for ReLUs that are never active (inputs or a bias of a wrong scale), a saturated "
        "sigmoid, a weight of 0, or a margin that all samples keep.",
    )


def norms_are_those_of_samples(e: Evidence) -> Iterator[Line]:
    """The gradient of 1, 2, 4, ... samples beside the mean of theirs alone."""
    title = "the gradient norm goes with the batch size as it should"
    if e.program.axis.size < 2 or not any(g is not None for g in e.gradients.values()):
        return
    points = [p for p in e.norms if all(map(math.isfinite, p))]
    if len(points) < 2 or not points[-1].healthy_gradient_norm:
        return
    last = points[-1]
    ratio = last.gradient_norm / last.healthy_gradient_norm
    summed = ratio / last.batch_size  # of a loss that is a sum
    rows = ", ".join(f"{p.gradient_norm:.3g} at {p.batch_size}" for p in points)
    healthy = ", ".join(f"{p.healthy_gradient_norm:.3g}" for p in points)
    if any(1 / _FAR <= r <= _FAR for r in (ratio, summed)) or (
        e.audit and e.audit.kind == "coupled"
    ):
        yield Line(codes.NORMS, "pass", title, rows, f"{healthy} for the mean of samples alone")
        return
    yield Line(
        codes.NORMS,
        "warn",
        title,
        rows,
        f"{healthy} for the mean of samples alone",
        "Samples have a part in the gradients of others, or the batch size in the loss.",
    )


# 7. A short training -----------------------------------------------------------------------------


def one_batch_is_learnt(e: Evidence) -> Iterator[Line]:
    """A model that can learn learns one batch by heart."""
    title = "one batch can be learnt by heart"
    if not any(g is not None for g in e.gradients.values()):
        return
    last = e.fits[-1]
    seen = "; ".join(
        f"{f.optimizer}: {f.begun:.4g} to {f.ended:.4g} in {f.steps} steps" for f in e.fits
    )
    expected = "less than at the start"
    if e.levels is not None and e.levels.constant >= 1e-3:
        expected = f"less than {e.levels.constant:.4g}, which takes no look at the inputs"
    first = e.fits[0]
    stuck = first.optimizer.startswith("your") and not first.fell
    if last.reached and not stuck:
        yield Line(codes.OVERFIT, "pass", title, seen, expected)
        return
    advice = "Look for layers that are frozen or not used, inputs that do not reach the head, and "
    advice += f"the lines above. {STEPS} steps are few for a model that is large or slow to begin."
    if stuck and last.reached:
        advice = (
            "The model can learn it: look at the learning rate of your optimizer, and at which "
        )
        advice += "parameters it has."
    yield Line(codes.OVERFIT, "warn", title, seen, expected, advice)


def a_batch_of_one_works(e: Evidence) -> Iterator[Line]:
    """The last batch of an epoch may have one sample."""
    title, program = "a last batch of one works", e.program
    if program.axis.size < 2:
        return
    one = program.axis.take(program.batch, [0])
    advice = "Leave it out: `DataLoader(..., drop_last=True)`."
    try:
        value = float(program.run(one).value.detach())
    except Exception as error:  # whatever a model raises
        normalises = any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) for m in program.model.modules()
        )
        why = " Batch normalisation needs two samples." if normalises else ""
        why = why or " Or look for a `squeeze()` that removes the batch axis, too."
        seen = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        yield Line(codes.LAST_BATCH, "warn", title, seen, "a loss", advice + why)
        return
    if not math.isfinite(value):
        yield Line(codes.LAST_BATCH, "warn", title, f"loss {value}", "a number", advice)
    else:
        yield Line(codes.LAST_BATCH, "pass", title, f"loss {value:.4g}")


def evaluation_works(e: Evidence) -> Iterator[Line]:
    """The step runs after `model.eval()`."""
    title, program = "evaluation mode works", e.program
    program.fresh()
    try:
        with evaluating(program.model):
            value = float(program.run(fresh=False).value.detach())
    except Exception as error:  # whatever a model raises
        seen = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}"
        yield Line(
            codes.EVALUATION, "warn", title, seen, "a loss after `model.eval()`",
            "Some models give no loss there; otherwise validation will fail as this did.",
        )  # fmt: skip
        return
    if math.isfinite(value):
        yield Line(codes.EVALUATION, "pass", title, f"loss {value:.4g}")
    else:
        advice = "Look at the running statistics of the normalisation layers."
        yield Line(codes.EVALUATION, "warn", title, f"loss {value}", "a number", advice)


def a_second_call_is_the_same(e: Evidence) -> Iterator[Line]:
    """In evaluation mode, from the same state of the random generators."""
    title, program = "a second call gives the same", e.program
    program.fresh()
    try:
        with evaluating(program.model):
            first = float(program.run(fresh=False).value.detach())
            program.restart_generators()
            second = float(program.run(fresh=False).value.detach())
    except Exception:  # which the line before has told of
        return
    if math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-7) or not math.isfinite(first):
        yield Line(codes.REPEAT, "pass", title, f"{first:.4g} twice")
        return
    yield Line(
        codes.REPEAT,
        "warn",
        title,
        f"{first:.6g}, and then {second:.6g}",
        "the same in evaluation mode, with the same random numbers",
        "Something is kept from one call to the next, such as a hidden state: detach or reset it.",
    )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


# Those that also judge a step that raised, by the calls of losses that it came to.
BEFORE: tuple[Check, ...] = (shapes_fit, head_fits, labels_are_legal)
QUICK: tuple[Check, ...] = (step_runs, *BEFORE)  # they need no time to speak of
CHECKS: tuple[Check, ...] = (
    step_runs,
    shapes_fit,
    batch_stays,
    head_fits,
    labels_are_legal,
    labels_vary,
    classes_are_balanced,
    loss_begins_near_chance,
    samples_do_not_mix,
    model_does_not_mix,
    gradients_reach,
    optimizer_holds_them,
    gradients_are_finite,
    gradients_are_alive,
    norms_are_those_of_samples,
    one_batch_is_learnt,
    a_batch_of_one_works,
    evaluation_works,
    a_second_call_is_the_same,
)
