"""What numbers tell about their meaning: whole numbers, one-hot rows, probabilities, scores.

Messages ask it before they offer a fix. Each answer is about all numbers of a tensor.
"""

import torch
from torch import Tensor

_NEAR = 1e-2  # how far off a sum of probabilities may be, half precision included
_FEW = 8  # so many different numbers are listed
_PIXEL_VALUES = 16  # an image has more different numbers than labels have


def distinct(values: Tensor) -> list[float]:
    """The numbers that `values` holds, each once and in order. They are not complex."""
    return values.unique().tolist()


def listed(values: Tensor) -> str:
    """The numbers that `values` holds, in words: each of them where they are few."""
    if values.is_complex() or not values.numel():
        return ""
    numbers = [f"{number:g}" for number in distinct(values)]
    if len(numbers) > _FEW:
        return f"{len(numbers)} different numbers from {numbers[0]} to {numbers[-1]}"
    return f"{', '.join(numbers[:-1])} and {numbers[-1]}" if numbers[1:] else numbers[0]


def are_whole(values: Tensor) -> bool:
    """Whether there is nothing behind the decimal point, as of class indices."""
    if not values.is_floating_point():
        return not values.is_complex()
    return bool((values == values.round()).all())


def are_among(values: Tensor, *numbers: float) -> bool:
    """Whether `values` holds none but these numbers, and the last of them at least once."""
    if values.is_complex():
        return False
    known = set(distinct(values))
    return known <= set(numbers) and numbers[-1] in known


def are_one_hot(values: Tensor, axis: int) -> bool:
    """Whether along `axis` one number is 1 and all others are 0."""
    binary = ((values == 0) | (values == 1)).all()
    return bool(binary and (values.sum(axis) == 1).all())


def are_probabilities(values: Tensor, axis: int) -> bool:
    """Whether the numbers are not negative, and sum to 1 along `axis`."""
    if not values.is_floating_point() or not values.dim() or values.shape[axis] < 2:
        return False
    sums = values.sum(axis, dtype=torch.float64)
    return bool((values >= 0).all() and ((sums - 1).abs() <= _NEAR).all())


def are_pixels(values: Tensor) -> bool:
    """Whether the numbers are those of an image: whole, from 0 to 255, and many of them."""
    if not are_whole(values) or not values.numel():
        return False
    low, high = values.min(), values.max()
    return bool(low >= 0 and high <= 255) and len(distinct(values)) > _PIXEL_VALUES


def are_scores(values: Tensor, axis: int) -> bool:
    """Whether the numbers can be nothing but scores: they are neither whole nor in [0, 1]."""
    if not values.is_floating_point() or are_whole(values):
        return False
    return bool((values < 0).any() or (values > 1).any())
