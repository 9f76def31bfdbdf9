"""The losses of PyTorch by name, with their positional parameters in order.

Written out, since asking torch takes a second; a test compares them with torch and with safeloss.
"""

_FUNCTIONS = {
    "binary_cross_entropy": "input target weight size_average reduce reduction",
    "binary_cross_entropy_with_logits": (
        "input target weight size_average reduce reduction pos_weight"
    ),
    "cosine_embedding_loss": "input1 input2 target margin size_average reduce reduction",
    "cross_entropy": (
        "input target weight size_average ignore_index reduce reduction label_smoothing"
    ),
    "ctc_loss": ("log_probs targets input_lengths target_lengths blank reduction zero_infinity"),
    "gaussian_nll_loss": "input target var full eps reduction",
    "hinge_embedding_loss": "input target margin size_average reduce reduction",
    "huber_loss": "input target reduction delta weight",
    "kl_div": "input target size_average reduce reduction log_target",
    "l1_loss": "input target size_average reduce reduction weight",
    "linear_cross_entropy": "input linear_weight target",
    "margin_ranking_loss": "input1 input2 target margin size_average reduce reduction",
    "mse_loss": "input target size_average reduce reduction weight",
    "multi_margin_loss": "input target p margin weight size_average reduce reduction",
    "multilabel_margin_loss": "input target size_average reduce reduction",
    "multilabel_soft_margin_loss": "input target weight size_average reduce reduction",
    "nll_loss": "input target weight size_average ignore_index reduce reduction",
    "poisson_nll_loss": "input target log_input full size_average eps reduce reduction",
    "smooth_l1_loss": "input target size_average reduce reduction beta",
    "soft_margin_loss": "input target size_average reduce reduction",
    "triplet_margin_loss": (
        "anchor positive negative margin p eps swap size_average reduce reduction"
    ),
    "triplet_margin_with_distance_loss": "anchor positive negative",
}
_CLASSES = {
    "AdaptiveLogSoftmaxWithLoss": (
        "in_features n_classes cutoffs div_value head_bias device dtype"
    ),
    "BCELoss": "weight size_average reduce reduction",
    "BCEWithLogitsLoss": "weight size_average reduce reduction pos_weight",
    "CTCLoss": "blank reduction zero_infinity",
    "CosineEmbeddingLoss": "margin size_average reduce reduction",
    "CrossEntropyLoss": "weight size_average ignore_index reduce reduction label_smoothing",
    "GaussianNLLLoss": "",
    "HingeEmbeddingLoss": "margin size_average reduce reduction",
    "HuberLoss": "reduction delta",
    "KLDivLoss": "size_average reduce reduction log_target",
    "L1Loss": "size_average reduce reduction",
    "LinearCrossEntropyLoss": "in_features num_classes",
    "MSELoss": "size_average reduce reduction",
    "MarginRankingLoss": "margin size_average reduce reduction",
    "MultiLabelMarginLoss": "size_average reduce reduction",
    "MultiLabelSoftMarginLoss": "weight size_average reduce reduction",
    "MultiMarginLoss": "p margin weight size_average reduce reduction",
    "NLLLoss": "weight size_average ignore_index reduce reduction",
    "PoissonNLLLoss": "log_input full size_average eps reduce reduction",
    "SmoothL1Loss": "size_average reduce reduction beta",
    "SoftMarginLoss": "size_average reduce reduction",
    "TripletMarginLoss": "margin p eps swap size_average reduce reduction",
    "TripletMarginWithDistanceLoss": "",
}

FUNCTIONS = {name: tuple(names.split()) for name, names in _FUNCTIONS.items()}
CLASSES = {name: tuple(names.split()) for name, names in _CLASSES.items()}


def words(text: str) -> frozenset[str]:
    """The words of a text: a long set that reads well."""
    return frozenset(text.split())


# The function that computes what a class does: the one loss under one name for `lint`.
FUNCTION_OF = {
    "AdaptiveLogSoftmaxWithLoss": "adaptive_log_softmax_with_loss",
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "CTCLoss": "ctc_loss",
    "CosineEmbeddingLoss": "cosine_embedding_loss",
    "CrossEntropyLoss": "cross_entropy",
    "GaussianNLLLoss": "gaussian_nll_loss",
    "HingeEmbeddingLoss": "hinge_embedding_loss",
    "HuberLoss": "huber_loss",
    "KLDivLoss": "kl_div",
    "L1Loss": "l1_loss",
    "LinearCrossEntropyLoss": "linear_cross_entropy",
    "MSELoss": "mse_loss",
    "MarginRankingLoss": "margin_ranking_loss",
    "MultiLabelMarginLoss": "multilabel_margin_loss",
    "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss",
    "MultiMarginLoss": "multi_margin_loss",
    "NLLLoss": "nll_loss",
    "PoissonNLLLoss": "poisson_nll_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "TripletMarginLoss": "triplet_margin_loss",
    "TripletMarginWithDistanceLoss": "triplet_margin_with_distance_loss",
}

# Everything that a path of a loss may begin with, and what it is short for.
_MODULES = {
    "torch.nn.functional.": FUNCTIONS,
    "torch.nn.modules.loss.": CLASSES,
    "torch.nn.modules.adaptive.": CLASSES,
    "torch.nn.modules.": CLASSES,
    "torch.nn.": CLASSES,
}


def native(path: str) -> tuple[str, str] | None:
    """The loss of PyTorch that a dotted path begins with, and the attributes behind it.

    >>> native("torch.nn.modules.loss.MSELoss.forward")
    ('MSELoss', '.forward')
    >>> native("torch.nn.Linear")
    """
    for module, names in _MODULES.items():
        if path.startswith(module):
            name, dot, rest = path.removeprefix(module).partition(".")
            if name in names:
                return name, dot + rest
    return None


def replacement(name: str) -> str:
    """What stands in for a loss of PyTorch, as a path."""
    return f"safeloss.Safe{name}" if name in CLASSES else f"safeloss.functional.{name}"


def either(path: str) -> str | None:
    """The function that a native or a safe loss computes; None for what is no loss.

    >>> either("torch.nn.MSELoss"), either("safeloss.functional.mse_loss")
    ('mse_loss', 'mse_loss')
    """
    if path.startswith("safeloss."):
        name = path.rpartition(".")[2]
        if name == "SafeCrossEntropy":
            return "cross_entropy"
        if name in ("MultiLabelBCE", "multilabel_binary_cross_entropy"):
            return "binary_cross_entropy_with_logits"
        path = f"torch.nn.{'functional.' if name in FUNCTIONS else ''}{name.removeprefix('Safe')}"
    found = native(path)
    if found is None or found[1]:
        return None
    return FUNCTION_OF.get(found[0], found[0])
