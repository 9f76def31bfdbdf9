"""The rules: what each looks for, why it matters and what to do, as data.

`precision` is what was measured on the packages of `docs/migrate.md`, as (right, judged); a rule
that was never seen there has (0, 0): no data. Off by default is what was wrong more than once in
twenty.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """One mistake that the source shows."""

    code: str
    title: str
    meaning: str
    example: str
    fix: str
    precision: tuple[int, int]
    default: bool = True

    @property
    def measured(self) -> str:
        """The precision in words.

        >>> RULES["SL206"].measured.partition(" of ")[1]
        ' of '
        """
        right, judged = self.precision
        return f"{right} of {judged} right" if judged else "no data"


_RULES = (
    Rule(
        "SL201",
        "a softmax or sigmoid before a loss that takes logits",
        "The loss has a softmax or a sigmoid inside. A second one flattens the gradients: training"
        " runs, is slow and ends early, and nothing raises.",
        "probabilities = F.softmax(model(x), dim=1)\nloss = F.cross_entropy(probabilities, labels)",
        "Give the loss the logits, and take the softmax or sigmoid only where probabilities are"
        " shown.",
        (1, 1),
    ),
    Rule(
        "SL202",
        "what is no log-probability before a loss that takes log-probabilities",
        "nll_loss and kl_div read their input as logarithms of probabilities. From a softmax, or"
        " from raw scores, they compute a number that falls for the wrong reasons.",
        "loss = F.nll_loss(F.softmax(logits, dim=1), labels)",
        "Use log_softmax, or cross_entropy on the logits instead of nll_loss.",
        (2, 2),
    ),
    Rule(
        "SL203",
        "squeeze() without an axis on what goes into a loss",
        "It removes every axis of size 1, the batch too when the last batch has one sample. The"
        " shapes then broadcast or do not fit, on that batch only.",
        "loss = F.binary_cross_entropy_with_logits(model(x).squeeze(), labels)",
        "Name the axis: squeeze(-1) or squeeze(1).",
        (3, 3),
    ),
    Rule(
        "SL204",
        "cross entropy on one output",
        "The softmax of one class is always 1, so the loss is 0 and nothing is learnt.",
        "head = nn.Linear(10, 1)\nloss = F.cross_entropy(head(x), labels)",
        "Use binary_cross_entropy_with_logits for a yes/no question, or one output a class.",
        (0, 0),
    ),
    Rule(
        "SL205",
        'kl_div with reduction="mean"',
        'The default "mean" divides by all elements, not by the samples: it is not the'
        " Kullback-Leibler divergence, and it shrinks with the number of classes.",
        "loss = F.kl_div(log_probabilities, targets)",
        'Say reduction="batchmean".',
        (0, 0),
    ),
    Rule(
        "SL206",
        "softmax without dim",
        "PyTorch then guesses the axis from the number of axes (0 for one or three), warns once,"
        " and the softmax may run over the batch.",
        "probabilities = nn.Softmax()(logits)",
        "Say dim=1, or dim=-1 where the classes are the last axis.",
        (15, 15),
    ),
    Rule(
        "SL207",
        "class weights that stay on the CPU",
        "The model moves to a device and the weights of the loss do not, so the first loss on a GPU"
        " raises.",
        "criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0]))\nmodel.to(device)",
        "Move the loss (criterion.to(device)), or make the weights there (device=device).",
        (0, 0),
    ),
    Rule(
        "SL208",
        "predictions and targets in the wrong order",
        "PyTorch's losses take the prediction first. The other way round the loss is another"
        " function, or reads class numbers as scores.",
        "loss = F.binary_cross_entropy_with_logits(labels, logits)",
        "Say loss(logits, labels).",
        (0, 0),
    ),
    Rule(
        "SL209",
        "a mean of means over micro-batches",
        "A mean that leaves targets out (ignore_index) counts other numbers of them in each"
        " micro-batch. Divided by the number of micro-batches, it is not the mean over all.",
        "criterion = nn.CrossEntropyLoss(ignore_index=0)\n"
        "loss = criterion(logits, tags) / accumulation_steps",
        'Use reduction="sum" and divide by the targets of all micro-batches.',
        (0, 0),
    ),
    Rule(
        "SL210",
        "the mean of a loss that was masked by hand",
        "The product with a mask is 0 where nothing counts, and mean() counts those zeros too: the"
        " loss shrinks with the padding. An infinity or NaN under the mask stays NaN.",
        'each = F.mse_loss(predictions, targets, reduction="none")\nloss = (each * mask).mean()',
        "Divide by what counts: (each * mask).sum() / mask.sum(), or each[mask].mean(). A safe loss"
        " takes the mask itself: SafeMSELoss()(predictions, targets, mask=mask).",
        (2, 2),
    ),
    Rule(
        "SL211",
        "a squared or absolute error that is written by hand",
        "Predictions [batch, 1] and targets [batch] broadcast to [batch, batch] without a word, and"
        " every prediction is scored against every target.",
        "loss = ((predictions - targets) ** 2).mean()",
        "Use safeloss.functional.mse_loss(predictions, targets), which checks the shapes, or"
        " safeloss.align(targets, like=predictions).",
        (7, 8),
        default=False,
    ),
)
RULES = {rule.code: rule for rule in _RULES}
