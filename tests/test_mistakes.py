"""Every mistake that has a name is made here, and is called by it."""

import pytest
import torch

import safeloss
from safeloss import functional
from safeloss._contract import mistakes as _mistakes

B, C, T = 4, 3, 5
rand, randn = torch.rand, torch.randn


def long(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.long)


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.long)


MADE = {
    # mistake: (kernel, arguments, options)
    "ONE_CLASS": ("cross_entropy", (randn(B, 1), ones(B)), {}),
    "SOFTMAX_OVER_THE_BATCH": ("cross_entropy", (randn(B), rand(B)), {}),
    "ONE_HOT": ("cross_entropy", (randn(B, C), long(B, C)), {}),
    "LINEAR_ONE_CLASS": ("linear_cross_entropy", (randn(B, T), randn(1, T), long(B)), {}),
    "LINEAR_ONE_HOT": ("linear_cross_entropy", (randn(B, T), randn(C, T), long(B, C)), {}),
    "LINEAR_BOOL_INDICES": ("linear_cross_entropy", (randn(B, T), randn(C, T), ones(B).bool()), {}),
    "LINEAR_FLOATING_INDICES": ("linear_cross_entropy", (randn(B, T), randn(C, T), rand(B)), {}),
    "BOOL_INDICES": ("cross_entropy", (randn(B, C), ones(B).bool()), {}),
    "BOOL_INDEX": ("nll_loss", (-rand(C), ones().bool()), {}),
    "ONE_SCORE": ("cross_entropy", (randn(B), long(B)), {}),
    "FLOATING_INDICES": ("nll_loss", (-rand(B, C), rand(B)), {}),
    "IGNORED_PROBABILITIES": (
        "cross_entropy",
        (randn(B, C), rand(B, C).softmax(1)),
        {"ignore_index": -1},
    ),
    "LOG_ONE_CLASS": ("nll_loss", (-rand(B, 1), ones(B)), {}),
    "LOG_ONE_HOT": ("nll_loss", (-rand(B, C), long(B, C)), {}),
    "MARGIN_ONE_CLASS": ("multi_margin_loss", (randn(B, 1), ones(B)), {}),
    "BATCH_OR_CLASS_SET": ("multilabel_margin_loss", (randn(B), long(B, 1)), {}),
    "BATCHMEAN_OF_ONE_SAMPLE": ("kl_div", (-rand(C), rand(C)), {"reduction": "batchmean"}),
    "CLASS_INDICES": ("binary_cross_entropy_with_logits", (randn(B, C), long(B)), {}),
    "CLASS_INDICES_IN_SPACE": (
        "binary_cross_entropy_with_logits",
        (randn(B, C, T), long(B, T)),
        {},
    ),
    "CLASS_INDICES_LAST": ("multilabel_soft_margin_loss", (randn(B, T, C), long(B, T)), {}),
    "ONE_LABEL": ("binary_cross_entropy_with_logits", (randn(B, C), rand(B)), {}),
    "NUMBERS_OR_INDICES": ("mse_loss", (randn(B, C), long(B)), {}),
    "PROBABILITIES_OR_INDICES": ("binary_cross_entropy", (rand(B, C), long(B)), {}),
    "INDICES_FOR_SHARES": ("kl_div", (-rand(B, C), long(B)), {}),
    "ONE_LABEL_OF_SOFTMAX": ("binary_cross_entropy", (rand(B, C), rand(B)), {}),
    "SAMPLES_FIRST": ("ctc_loss", (-rand(B, T, C), ones(B, 2), ones(B) * T, ones(B)), {}),
    "BATCH_OR_LABELS": ("multilabel_binary_cross_entropy", (randn(B), rand(B)), {}),
    "ONE_QUESTION": ("multilabel_binary_cross_entropy", (randn(B, 1), rand(B, 1)), {}),
    "CLASS_INDICES_FOR_LABELS": ("multilabel_binary_cross_entropy", (randn(B, C), long(B)), {}),
}
MISTAKES = {
    name: row for name, row in vars(_mistakes).items() if isinstance(row, _mistakes.Mistake)
}


def test_every_mistake_is_made_here() -> None:
    assert set(MADE) == set(MISTAKES)


@pytest.mark.parametrize("name", MADE)
def test_a_mistake_is_called_by_its_name(name: str) -> None:
    kernel, arguments, options = MADE[name]
    if not hasattr(functional, kernel):
        pytest.skip("torch has no such loss")
    function, mistake = getattr(functional, kernel), MISTAKES[name]
    if mistake.warns:
        with pytest.warns(safeloss.SuspiciousInputWarning) as caught:
            function(*arguments, **options)
        assert any(mistake.rule in str(warning.message) for warning in caught)
        return
    with pytest.raises(mistake.error) as refusal:
        function(*arguments, **options)
    assert refusal.value.rule == mistake.rule
    assert refusal.value.advice.startswith(mistake.advice)


def test_nothing_is_said_of_an_ignored_index_that_pytorch_refuses() -> None:
    with pytest.raises(RuntimeError, match="ignore_index"):
        functional.cross_entropy(randn(B, C), rand(B, C).softmax(1), ignore_index=1)
