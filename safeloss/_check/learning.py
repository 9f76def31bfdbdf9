"""What is checked of learning: the loss at the start, samples, gradients, a short training."""

import math
from collections.abc import Iterator

from torch import nn

from safeloss._check.batches import tensors
from safeloss._check.evidence import STEPS, Evidence
from safeloss._check.inputs import counted_labels, is_made, mixes
from safeloss._check.line import Line, Status, listed_names
from safeloss._check.program import evaluating, norm
from safeloss._contract import codes

_MAX_RATIO = 2.0
_MAX_RATIO_OF_REGRESSION = 10.0  # since the scale of the targets is not known


# 4. The loss at the start ------------------------------------------------------------------------


def loss_begins_near_chance(e: Evidence) -> Iterator[Line]:
    """Compare the first loss with that of the best answers that ignore the input.

    For classes the limit is twice that loss: a larger one means that the model is confidently
    wrong. For regression it is ten times: from there on, training first spends nine tenths of the
    loss on learning the mean of the targets.
    """
    title, levels, counted = "the loss begins near chance", e.levels, counted_labels(e.main_call)
    if levels is None or e.main_call is None or counted is None:
        return
    if bool((counted == counted[:1]).all()) and is_made(e, e.main_call):
        return  # the ones of a generator's step say nothing of chance
    chance = f"{levels.chance:.4g} ({levels.words}) is chance; " if levels.chance else ""
    expected = f"{chance}{levels.constant:.4g} is the best answer that is the same for all"
    seen = f"{levels.now:.4g}"
    far = _MAX_RATIO if levels.chance is not None else _MAX_RATIO_OF_REGRESSION
    if levels.now <= far * levels.without_input or levels.without_input <= 0:
        yield Line(codes.START, "pass", title, seen, expected)
    elif levels.chance is None:
        advice = "Give the last bias the mean of the targets, or its logarithm for a log-rate."
        if levels.targets:
            advice = "Bring the targets to mean 0 and standard deviation 1, or give the last bias "
            advice += f"their mean ({levels.targets})."
        yield Line(codes.START, "warn", title, seen, expected, advice)
    else:
        advice = "The scores are large before anything is learnt: look for inputs that are not "
        advice += "normalised, weights that are too large, or a factor before the loss."
        yield Line(codes.START, "warn", title, seen, expected, advice)


# 5. Samples and one another ----------------------------------------------------------------------


def samples_do_not_mix(e: Evidence) -> Iterator[Line]:
    """Check that the target of a sample does not affect the gradients of other samples."""
    title, audit, expected = "each sample meets its own target", e.audit, "no influence on others"
    if audit is None or audit.kind in ("no gradient", "not finite", "untested", "unsteady", "flat"):
        return
    if mixes(audit, e):
        fixes = [f"Fix: `{fix}`." for fix in audit.fixes[:1]]
        advice = " ".join([audit.advice, *fixes])
        notes = "".join(f" {note}" for note in audit.notes if "stretched" in note)
        yield Line(codes.MIXED, "fail", title, f"{audit.verdict}{notes}", expected, advice)
    elif audit.kind == "wrong class axis" or (audit.bug and audit.kind != "shared target"):
        few = f" ({e.program.axis.size} samples show little)" if e.program.axis.size < 4 else ""
        yield Line(codes.MIXED, "warn", title, audit.verdict + few, expected, audit.advice)
    else:
        yield Line(codes.MIXED, "pass", title, audit.verdict)


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
    if len(missing) == total and e.other_leaves:
        held = _optimizer_ids(e)
        status: Status = "pass" if any(id(leaf) in held for leaf in e.other_leaves) else "warn"
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
            codes.UNREACHED, "warn", title, f"not {listed_names(missing)}", f"all {total}",
            "Layers that the loss does not use do not learn; freeze them if that is meant.",
        )  # fmt: skip
    else:
        yield Line(codes.UNREACHED, "pass", title, f"all {total} of them")


def optimizer_has_parameters(e: Evidence) -> Iterator[Line]:
    """Check that the optimizer has the parameters that the gradients reach."""
    given, title = e.program.given_optimizer, "the optimizer has these parameters"
    if given is None:
        return
    held = _optimizer_ids(e)
    own = e.program.given_parameters()
    reached = {name for name, gradient in e.gradients.items() if gradient is not None}
    left = [name for name, p in own.items() if id(p) not in held and name in reached]
    common = [name for name, p in own.items() if id(p) in held and name in reached]
    if not common and any(id(leaf) in held for leaf in e.other_leaves):
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
            codes.OPTIMIZER, "warn", title, f"not {listed_names(left)}", f"all {len(own)}",
            "Give it `model.parameters()`; set `requires_grad=False` for those that stay.",
        )  # fmt: skip
    else:
        yield Line(codes.OPTIMIZER, "pass", title, f"all {len(common)}")


def _optimizer_ids(e: Evidence) -> set[int]:
    """What the optimizer has, by `id`."""
    given = e.program.given_optimizer
    groups = [] if given is None else given.param_groups
    return {id(p) for group in groups for p in group["params"]}


def gradients_are_finite(e: Evidence) -> Iterator[Line]:
    """Check that the loss and its gradients contain no NaN and no inf."""
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
        f"loss {value:.4g}"
        + (f"; NaN or inf in the gradient of {listed_names(wrong)}" if wrong else ""),
        "numbers",
        ("The batch itself holds NaN or inf. " if broken else "")
        + "Look for a logarithm or a root of 0, a division by 0, NaN in the inputs or targets, a "
        "mean over nothing, or half precision past 65504.",
    )


def gradients_are_alive(e: Evidence) -> Iterator[Line]:
    """Check that every parameter gets a gradient other than 0, at the start or in the training."""
    reached = [name for name, g in e.gradients.items() if g is not None]
    if not reached:
        return
    zero = [name for name in reached if name not in e.alive]
    if zero and zero != reached and not e.program.out_of_time:
        _ = e.trainings  # which adds the parameters that get a gradient there to `alive`
        zero = [name for name in reached if name not in e.alive]
    title = "no gradient is 0"
    if not zero:
        yield Line(codes.ZERO_GRADIENT, "pass", title, f"{len(reached)} parameters have one")
        return
    few = "all parameters" if len(zero) == len(reached) else listed_names(zero)
    yield Line(
        codes.ZERO_GRADIENT,
        "warn",
        title,
        f"exactly 0 for {few}",
        "a gradient in each",
        "Look for ReLUs that are never active (inputs or a bias of a wrong scale), a saturated "
        "sigmoid, a weight of 0, or a margin that all samples keep.",
    )


def gradient_norms_fit_batch_size(e: Evidence) -> Iterator[Line]:
    """Check that the gradient norm of 1, 2, 4, ... samples is near their own mean's."""
    title = "the gradient norm goes with the batch size as it should"
    if e.program.axis.size < 2 or not any(g is not None for g in e.gradients.values()):
        return
    points = [p for p in e.norms if all(map(math.isfinite, p))]
    if len(points) < 2 or not points[-1].healthy_gradient_norm:
        return
    last = points[-1]
    ratio = last.gradient_norm / last.healthy_gradient_norm
    ratio_if_summed = ratio / last.batch_size  # of a loss that is a sum
    rows = ", ".join(f"{p.gradient_norm:.3g} at {p.batch_size}" for p in points)
    healthy = ", ".join(f"{p.healthy_gradient_norm:.3g}" for p in points)
    if any(1 / _MAX_RATIO <= r <= _MAX_RATIO for r in (ratio, ratio_if_summed)) or (
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
    """Check that the model can overfit one batch."""
    title = "one batch can be learnt by heart"
    if not any(g is not None for g in e.gradients.values()):
        return
    last = e.trainings[-1]
    seen = "; ".join(
        f"{f.optimizer}: {f.first_loss:.4g} to {f.last_loss:.4g} in {f.steps} steps"
        for f in e.trainings
    )
    expected = "less than at the start"
    if e.levels is not None and e.levels.constant >= 1e-3:
        expected = f"less than {e.levels.constant:.4g}, which takes no look at the inputs"
    first = e.trainings[0]
    stuck = first.optimizer.startswith("your") and not first.decreased
    if last.beats_constant and not stuck:
        yield Line(codes.OVERFIT, "pass", title, seen, expected)
        return
    advice = "Look for layers that are frozen or not used, inputs that do not reach the head, and "
    advice += f"the lines above. {STEPS} steps are few for a model that is large or slow to begin."
    if stuck and last.beats_constant:
        advice = (
            "The model can learn it: look at the learning rate of your optimizer, and at which "
        )
        advice += "parameters it has."
    yield Line(codes.OVERFIT, "warn", title, seen, expected, advice)


def a_batch_of_one_works(e: Evidence) -> Iterator[Line]:
    """Check that a batch of one sample works, as the last one of an epoch may be."""
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
    """Check that the step runs after `model.eval()`."""
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
    """Check that a second call in evaluation mode, with the same random numbers, gives the same."""
    title, program = "a second call gives the same", e.program
    program.fresh()
    try:
        with evaluating(program.model):
            first = float(program.run(fresh=False).value.detach())
            program.restart_generators()
            second = float(program.run(fresh=False).value.detach())
    except Exception:  # which `evaluation_works` has reported
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
