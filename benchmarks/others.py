"""What else a user may pick: fastai's flat losses, and those of Keras 3 on its torch backend.

They, and what `own` compares with, are in the extra `bench`. What is not installed is left out, and
the report says so.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import Tensor

LIBRARIES = ("fastai", "keras", "monai", "torchvision")
_FASTAI = {
    "BCEWithLogits": "BCEWithLogitsLossFlat",
    "CrossEntropy": "CrossEntropyLossFlat",
    "L1": "L1LossFlat",
    "MSE": "MSELossFlat",
}
_KERAS: dict[str, tuple[str, dict[str, Any]]] = {
    "BCEWithLogits": ("BinaryCrossentropy", {"from_logits": True}),
    "CrossEntropy": ("SparseCategoricalCrossentropy", {"from_logits": True}),
    "L1": ("MeanAbsoluteError", {}),
    "MSE": ("MeanSquaredError", {}),
    "Huber": ("Huber", {}),
}
COMPARED = tuple(dict.fromkeys([*_FASTAI, *_KERAS]))


def installed() -> dict[str, bool]:
    """Which of the libraries are there."""
    return {name: find_spec(name) is not None for name in LIBRARIES}


def others(loss: str) -> dict[str, Callable[..., Tensor]]:
    """The same loss of every other library that is installed and has it, of (input, target)."""
    found: dict[str, Callable[..., Tensor]] = {}
    there = installed()
    if there["fastai"] and loss in _FASTAI:
        import fastai.losses

        found["fastai"] = getattr(fastai.losses, _FASTAI[loss])()
    if there["keras"] and loss in _KERAS:
        os.environ["KERAS_BACKEND"] = "torch"  # read once, when Keras is imported
        import keras

        name, options = _KERAS[loss]
        theirs = getattr(keras.losses, name)(**options)
        found["keras"] = lambda scores, target: theirs(target, scores)
    return found
