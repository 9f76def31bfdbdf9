"""What each loss computes: an example, the formula as Python, and where the formula comes from.

A test runs each example and compares its last line with the formula. In a formula, `input`,
`target` and so on are the tensors of the example, and names of `torch` stand alone.
"""

from typing import NamedTuple


class Formula(NamedTuple):
    """The unreduced loss."""

    example: str  # ends in a line that calls `loss`
    formula: str  # equals what that line gives
    source: str  # a paper or a book, besides PyTorch's own page


_SCORES = "input, target = torch.tensor([-1.5, 0.5, 2.0]), torch.tensor([0.0, 1.0, 1.0])\n"
_NUMBERS = "input, target = torch.tensor([1.0, 2.5, -1.0]), torch.tensor([1.5, 2.5, 2.0])\n"
_SIGNS = "input, target = torch.tensor([0.2, 0.5, 2.0]), torch.tensor([1.0, -1.0, -1.0])\n"
_CLASSES = (
    "input = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.5]])\ntarget = torch.tensor([0, 2])\n"
)
_LABELS = (
    "input = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.5]])\n"
    "target = torch.tensor([[1, 0, 0], [1, 1, 0]])\n"
)
_TRIPLET = (
    "anchor, positive = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.4]])\n"
    "negative = torch.tensor([[0.0, 1.0]])\n"
)
_BINARY = "-(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))"


def _none(name: str, more: str = "", inputs: str = "input, target") -> str:
    return f'loss = safeloss.{name}(reduction="none"{more})\nloss({inputs})'


FORMULAS = {
    "SafeBCELoss": Formula(
        "input, target = torch.tensor([0.2, 0.6, 0.9]), torch.tensor([0.0, 1.0, 1.0])\n"
        + _none("SafeBCELoss"),
        "-(target * log(input) + (1 - target) * log(1 - input))",
        "",
    ),
    "SafeBCEWithLogitsLoss": Formula(_SCORES + _none("SafeBCEWithLogitsLoss"), _BINARY, ""),
    "MultiLabelBCE": Formula(_LABELS + _none("MultiLabelBCE"), _BINARY, ""),
    "SafeMultiLabelSoftMarginLoss": Formula(
        _LABELS + _none("SafeMultiLabelSoftMarginLoss"), f"({_BINARY}).mean(-1)", ""
    ),
    "SafeSoftMarginLoss": Formula(
        _SIGNS + _none("SafeSoftMarginLoss"), "log(1 + exp(-target * input))", ""
    ),
    "SafeHingeEmbeddingLoss": Formula(
        _SIGNS + _none("SafeHingeEmbeddingLoss", ", margin=1.0"),
        "where(target == 1, input, relu(1.0 - input))",
        "",
    ),
    "SafeCrossEntropyLoss": Formula(
        _CLASSES + _none("SafeCrossEntropyLoss"),
        "logsumexp(input, 1) - input[arange(2), target]",
        "",
    ),
    "SafeNLLLoss": Formula(
        _CLASSES + "input = input.log_softmax(1)\n" + _none("SafeNLLLoss"),
        "-input[arange(2), target]",
        "",
    ),
    "SafeMultiMarginLoss": Formula(
        _CLASSES + _none("SafeMultiMarginLoss", ", p=1, margin=1.0"),
        "stack([(relu(1.0 - x[y] + x).sum() - 1.0) / len(x) for x, y in zip(input, target)])",
        "",
    ),
    "SafeMultiLabelMarginLoss": Formula(
        "input = torch.tensor([[0.1, 0.2, 0.4, 0.8]])\ntarget = torch.tensor([[3, 0, -1, -1]])\n"
        + _none("SafeMultiLabelMarginLoss"),
        "stack([sum(relu(1 - (x[right] - x[wrong])) for right in (3, 0) for wrong in (1, 2)) / 4"
        " for x in input])",
        "",
    ),
    "SafeAdaptiveLogSoftmaxWithLoss": Formula(
        "loss = safeloss.SafeAdaptiveLogSoftmaxWithLoss(4, 6, cutoffs=[2])\n"
        "input, target = torch.eye(2, 4), torch.tensor([1, 5])\nloss(input, target).loss",
        "-loss.log_prob(input)[arange(2), target].mean()",
        "Grave et al., [Efficient softmax approximation for GPUs](https://arxiv.org/abs/1609.04309)",
    ),
    "SafeLinearCrossEntropyLoss": Formula(
        "loss = safeloss.SafeLinearCrossEntropyLoss(4, 3, bias=False)\n"
        "input, target = torch.eye(2, 4), torch.tensor([0, 2])\nloss(input, target)",
        "cross_entropy(input @ loss.linear.weight.T, target)",
        "",
    ),
    "SafeL1Loss": Formula(_NUMBERS + _none("SafeL1Loss"), "abs(input - target)", ""),
    "SafeMSELoss": Formula(_NUMBERS + _none("SafeMSELoss"), "(input - target) ** 2", ""),
    "SafeSmoothL1Loss": Formula(
        _NUMBERS + "d = abs(input - target)\n" + _none("SafeSmoothL1Loss", ", beta=1.0"),
        "where(d < 1.0, 0.5 * d**2 / 1.0, d - 0.5 * 1.0)",
        "Girshick, [Fast R-CNN](https://arxiv.org/abs/1504.08083)",
    ),
    "SafeHuberLoss": Formula(
        _NUMBERS + "d = abs(input - target)\n" + _none("SafeHuberLoss", ", delta=1.0"),
        "where(d < 1.0, 0.5 * d**2, 1.0 * (d - 0.5 * 1.0))",
        "Huber, Robust estimation of a location parameter (1964)",
    ),
    "SafePoissonNLLLoss": Formula(
        "input, target = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([1.0, 3.0, 0.0])\n"
        + _none("SafePoissonNLLLoss"),
        "exp(input) - target * input",
        "",
    ),
    "SafeGaussianNLLLoss": Formula(
        _NUMBERS
        + "var = torch.tensor([1.0, 0.5, 2.0])\n"
        + _none("SafeGaussianNLLLoss", inputs="input, target, var"),
        "0.5 * (log(var) + (input - target) ** 2 / var)",
        "Nix and Weigend, Estimating the mean and variance of the target probability "
        "distribution (1994)",
    ),
    "SafeKLDivLoss": Formula(
        "input = torch.tensor([[0.2, 0.3, 0.5]]).log()\ntarget = torch.tensor([[0.1, 0.4, 0.5]])\n"
        + _none("SafeKLDivLoss"),
        "target * (log(target) - input)",
        "",
    ),
    "SafeMarginRankingLoss": Formula(
        "input1, input2 = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 1.0])\n"
        "target = torch.tensor([1.0, 1.0])\n"
        + _none("SafeMarginRankingLoss", ", margin=0.5", "input1, input2, target"),
        "relu(-target * (input1 - input2) + 0.5)",
        "",
    ),
    "SafeCosineEmbeddingLoss": Formula(
        "input1, input2 = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.6, 0.8]] * 2)\n"
        "target = torch.tensor([1, -1])\n"
        + _none("SafeCosineEmbeddingLoss", ", margin=0.0", "input1, input2, target"),
        "where(target == 1, 1 - cosine_similarity(input1, input2),"
        " relu(cosine_similarity(input1, input2) - 0.0))",
        "",
    ),
    "SafeTripletMarginLoss": Formula(
        _TRIPLET + _none("SafeTripletMarginLoss", ", margin=1.0", "anchor, positive, negative"),
        "relu(pairwise_distance(anchor, positive) - pairwise_distance(anchor, negative) + 1.0)",
        "Balntas et al., Learning shallow convolutional feature descriptors with triplet losses "
        "(2016)",
    ),
    "SafeTripletMarginWithDistanceLoss": Formula(
        _TRIPLET
        + "distance = torch.nn.PairwiseDistance()\n"
        + _none(
            "SafeTripletMarginWithDistanceLoss",
            ", distance_function=distance",
            "anchor, positive, negative",
        ),
        "relu(distance(anchor, positive) - distance(anchor, negative) + 1.0)",
        "Balntas et al., Learning shallow convolutional feature descriptors with triplet losses "
        "(2016)",
    ),
    "SafeCTCLoss": Formula(
        "log_probs = torch.tensor([[[0.5, 0.3, 0.2]], [[0.6, 0.2, 0.2]]]).log()  # 0 is the blank\n"
        "targets, lengths = torch.tensor([[1]]), (torch.tensor([2]), torch.tensor([1]))\n"
        + _none("SafeCTCLoss", inputs="log_probs, targets, *lengths"),
        "-log(sum(exp(log_probs[0, :, a] + log_probs[1, :, b])"
        " for a, b in [(1, 0), (0, 1), (1, 1)]))",
        "Graves et al., Connectionist temporal classification (2006)",
    ),
}
