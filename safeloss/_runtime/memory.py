"""What is remembered of the calls of a loss: how known calls run, and what earlier calls proved."""

import contextlib
from typing import Any

from torch import Size

MOST_AXES = 64  # ranks and numbers of classes that one loss remembers
MOST_PLANS = 1024  # keys that one loss remembers, and forms; past that it begins anew
_SPECIAL_SIZES = {0: 0, 1: 1, 2: 2}  # the sizes that mean something by themselves


class Plans(dict[Any, Any]):
    """The plans of a loss, by the key of a call. A new key takes the plan of one of the same form.

    A plan is a closure that runs the call (`runner`); PyTorch's number of the reduction, with which
    its operator is called; or None, to call the kernel.
    """

    def __init__(self, memory: "Memory") -> None:
        self.memory = memory
        self.forms: dict[Any, tuple[Any, int | None]] = {}

    def __missing__(self, key: Any) -> Any:
        plan, proves = self.forms[shape_pattern(key)]
        if proves is not None:
            shape = key[0]  # of the first input
            self.memory.learn_class_axis(len(shape), shape[proves])
        self.keep(key, plan)
        return plan

    def keep(self, key: Any, plan: Any) -> None:
        _keep(self, key, plan)

    def keep_form(self, key: Any, plan: Any, proves: int | None) -> None:
        """Keep `plan` for `key` and all keys that have the same pattern of sizes.

        Each of their calls proves that axis `proves` of its first input holds the classes.
        """
        self.keep(key, plan)
        _keep(self.forms, shape_pattern(key), (plan, proves))


def shape_pattern(key: Any) -> Any:
    """`key` with its sizes replaced by labels: equal sizes share one, and 0, 1 and 2 keep theirs.

    A verdict depends on nothing else of the sizes, be they of axes or told by an option.
    """
    names = dict(_SPECIAL_SIZES)
    return tuple([_canonical(part, names) for part in key])


def _canonical(part: Any, names: dict[Any, int]) -> Any:
    if part.__class__ is Size:
        return tuple([names.setdefault(size, len(names)) for size in part])
    if part.__class__ is tuple:  # of a weight
        return tuple([_canonical(inner, names) for inner in part])
    return part, names.setdefault(part, len(names))


def _keep(store: dict[Any, Any], key: Any, plan: Any) -> None:
    if len(store) >= MOST_PLANS:
        store.clear()
    store[key] = plan


MOST_CHECKS = 8  # of batches that are too small to judge
UNKNOWN: Any = object()  # in the place of a plan, of a call that was not seen before


class _NoPlans(dict[Any, Any]):
    """The plans of a module that was never called: an answer, which costs less than a KeyError."""

    def __missing__(self, key: Any) -> Any:
        return UNKNOWN


NO_PLANS = _NoPlans()


class Memory:
    """What a module, or a place that calls a function, has learnt from its calls.

    A verdict may need evidence from earlier calls: which axis holds the classes, for a rank and a
    number of classes; that one class is no mistake here; that the numbers were looked at.
    """

    __slots__ = (
        "checks_left",
        "class_axes",
        "class_axis_known",
        "one_class",
        "plans",
        "values_unchecked",
    )

    def __init__(
        self,
        class_axis_known: bool = False,
        values_unchecked: bool = True,
        class_axes: tuple[tuple[int, int], ...] = (),
        one_class: bool = False,
    ) -> None:
        self.plans: dict[Any, Any] = NO_PLANS
        # Compiled code has proved the class axis, for whatever rank.
        self.class_axis_known = class_axis_known
        # No call has been accepted, and so no numbers were looked at.
        self.values_unchecked = values_unchecked
        self.checks_left = 0  # for suspicious numbers, while there were too few to judge by
        self.class_axes = class_axes  # the ranks and numbers of classes for which it is known
        self.one_class = one_class  # two classes or more were seen, or one with fitting labels

    def knows_class_axis(self, rank: int, classes: int) -> bool:
        return self.class_axis_known or (rank, classes) in self.class_axes

    def learn_class_axis(self, rank: int, classes: int) -> None:
        if (rank, classes) not in self.class_axes:
            # A new tuple: another thread may be reading the old one.
            self.class_axes = (*self.class_axes, (rank, classes))[-MOST_AXES:]

    def learn_plan(self, key: Any, plan: Any, proves: int | None, fits_form: bool) -> None:
        """Keep the plan of a call; if it `fits_form`, for all calls of the same form."""
        plans = self.plans
        if not isinstance(plans, Plans):
            plans = self.plans = Plans(self)
        with contextlib.suppress(TypeError):  # an option without a hash: read on every call
            if fits_form:
                plans.keep_form(key, plan, proves)
            else:
                plans.keep(key, plan)

    def evidence(self) -> tuple[Any, ...]:
        """What a copy begins with, as plain data."""
        return self.class_axis_known, self.values_unchecked, self.class_axes, self.one_class

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, self.evidence()


ONE_CLASS = Memory(one_class=True)  # the evidence where labels show that one class is meant
