"""The losses as modules: torch's own, with `forward` pointed at a checked kernel.

Every one takes, by keyword, `check_values` and `empty`, and `class_dim` where its inputs or
weights have a class axis:

    check_values   "first" (default) reads the numbers of the first call, "always" those of every
                   call, "never" none
    empty          the mean over zero elements is torch's NaN with a warning ("warn", default) or
                   without ("nan"), a zero connected to the graph ("zero"), or an error ("raise")
    class_dim      the axis of the classes in inputs of rank 3 and more: 1, which is torch's
                   convention, or -1
"""

from torch import nn as _nn

from safeloss._lazy import later as _public

_missing = [] if hasattr(_nn, "LinearCrossEntropyLoss") else ["SafeLinearCrossEntropyLoss"]
__getattr__, __dir__ = _public(__name__, lambda: _missing)
