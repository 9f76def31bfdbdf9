"""What one loss has learnt from its calls."""

from typing import Any

from torch import Size

MOST_PLANS = 1024  # signatures that one loss remembers, and forms; past that it begins anew
_TELLING = {0: 0, 1: 1, 2: 2}  # the sizes that mean something by themselves


class Plans(dict[Any, Any]):
    """What a call needs, by its signature; of a new one, what calls of the same form needed.

    That is a `Plan`; or, of native as it is, the number for its operator or None.
    """

    def __init__(self) -> None:
        self.forms: dict[Any, Any] = {}

    def __missing__(self, key: Any) -> Any:
        plan = self.forms[form(key)]
        self.keep(key, plan)
        return plan

    def keep(self, key: Any, plan: Any) -> None:
        _keep(self, key, plan)

    def keep_form(self, key: Any, plan: Any) -> None:
        """Keep `plan` for all signatures that differ from `key` in nothing that decides."""
        _keep(self.forms, form(key), plan)


def form(key: Any) -> Any:
    """What a verdict on the call of this signature depends on.

    That is which of its sizes are 0, 1 or 2 and which are equal, be they of axes or told by an
    option, but not how large they are: each is named in the order in which it appears.
    """
    names = dict(_TELLING)
    return tuple([_named(part, names) for part in key])


def _named(part: Any, names: dict[Any, int]) -> Any:
    if part.__class__ is Size:
        return tuple([names.setdefault(size, len(names)) for size in part])
    if part.__class__ is tuple:  # of a weight
        return tuple([_named(inner, names) for inner in part])
    return part, names.setdefault(part, len(names))


def _keep(store: dict[Any, Any], key: Any, plan: Any) -> None:
    if len(store) >= MOST_PLANS:
        store.clear()
    store[key] = plan


class Memory:
    """What one loss has learnt from its calls. Deep copies and pickles begin with no plans."""

    __slots__ = ("plans", "settled", "unread")

    def __init__(self, settled: bool = False, unread: bool = True) -> None:
        self.plans = Plans()
        self.settled = settled  # a call has proved which axis holds the classes
        self.unread = unread  # no call has been accepted, and so no values were looked at

    def __reduce__(self) -> tuple[Any, ...]:
        return Memory, (self.settled, self.unread)
