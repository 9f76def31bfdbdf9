"""The checks, in the order of the report."""

from safeloss._check.inputs import (
    batch_stays,
    classes_are_balanced,
    head_fits,
    labels_are_legal,
    labels_vary,
    shapes_fit,
    step_runs,
)
from safeloss._check.learning import (
    a_batch_of_one_works,
    a_second_call_is_the_same,
    evaluation_works,
    gradient_norms_fit_batch_size,
    gradients_are_alive,
    gradients_are_finite,
    gradients_reach,
    loss_begins_near_chance,
    model_does_not_mix,
    one_batch_is_learnt,
    optimizer_has_parameters,
    samples_do_not_mix,
)
from safeloss._check.line import Check

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
    optimizer_has_parameters,
    gradients_are_finite,
    gradients_are_alive,
    gradient_norms_fit_batch_size,
    one_batch_is_learnt,
    a_batch_of_one_works,
    evaluation_works,
    a_second_call_is_the_same,
)
