"""A mask has the axes of the unreduced loss; here it is applied to the arguments of the loss."""

from typing import Any

import torch
from torch import Tensor


def mask_of(
    mask: Tensor, shared: tuple[int, ...], missing: tuple[int, ...], own: tuple[int, ...]
) -> Tensor:
    """The mask with the axes of an argument: True where something that counts depends on it.

    See `Masked` for the axes.
    """
    for axis in shared:
        mask = mask.any(axis, keepdim=True)
    for axis in missing[::-1]:
        mask = mask.squeeze(axis)
    for axis in own:
        mask = mask.unsqueeze(axis)
    return mask


def filled(
    argument: Any,
    mask: Tensor,
    value: Any,
    shared: tuple[int, ...],
    missing: tuple[int, ...],
    own: tuple[int, ...],
) -> Any:
    """`argument` with `value` in the place of what the mask leaves out, which may be anything."""
    if isinstance(argument, (list, tuple)):  # lengths
        argument = torch.as_tensor(argument, device=mask.device)
    if not isinstance(argument, Tensor):
        return argument  # one number for all
    if shared or missing or own:
        mask = mask_of(mask, shared, missing, own)
    return torch.where(mask, argument, value)
