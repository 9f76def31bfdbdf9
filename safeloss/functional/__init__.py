"""The losses as functions, named as in `torch.nn.functional`.

Each is a kernel: its signature says everything about shapes, element types and values, and its
body is one call. The first argument binds the axes, and every other input must have the shape
that its layout spells, up to axes of size 1 that are only inserted or only missing.

Besides torch's own parameters: `class_dim` says which axis of inputs of rank 3 and more holds
the classes (1, torch's convention, or -1); `check_values` says when the numbers are read: at the
first call of each place in the code ("first"), at every call ("always"), or never; and `empty` is
the mean over zero elements: torch's NaN with a warning ("warn") or without ("nan"), a zero that is
connected to the graph ("zero"), or an error ("raise").
"""

import torch.nn.functional as _F

from safeloss._lazy import later as _public

_missing = [] if hasattr(_F, "linear_cross_entropy") else ["linear_cross_entropy"]
__getattr__, __dir__ = _public(__name__, lambda: _missing)
