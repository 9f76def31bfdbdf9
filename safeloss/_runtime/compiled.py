"""A call inside a compiler, which knows sizes only by their symbols.

To trace through the reader would have the compiler guard on all that it touches, at every call. So
it is the reader that asks (`size_oracle`), and what is traced are the answers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from safeloss._runtime.signature import Kernel, Signature, Sources, Total, averaged
from safeloss._torch import decided
from safeloss.errors import SafeLossError

Term: TypeAlias = tuple[bool, Any]  # the place of a number, or a value that is known
# Of a count the name of its type; of a tensor what is known of it, or else whether it is None.
Came: TypeAlias = str | tuple[torch.dtype, str, int] | bool


class Shown(NamedTuple):
    """What the compiler is to tell of a call: arguments, by what it knows of them."""

    sources: Sources
    counts: tuple[int, ...]  # positions
    options: tuple[int, ...]
    tensors: tuple[int, ...]


class Outcome(NamedTuple):
    """What the compiler is told: a question to answer, an error to raise, or what to run."""

    signature: Signature
    # How two numbers compare ("="; "0": one and a constant; "<"), or what earlier calls of a module
    # have proved: the "class axis" of a rank and a number of classes, or that "one class" is meant.
    asks: str = ""
    terms: tuple[Term, ...] = ()
    error: type[SafeLossError] = SafeLossError
    code: str = ""  # of an error
    text: tuple[Term, ...] = ()  # ... without its code and the name of the loss
    steps: tuple[tuple[int, str, tuple[Term, ...]], ...] = ()  # by position, a method
    positions: tuple[tuple[str, int], ...] = ()  # of all arguments, by name
    strategy: str = ""  # of the mean
    learns: bool = True  # that it was called; the module is not asked: that would be guarded on
    settles: bool = False  # which axis holds the classes


def traced_call(
    shown: Callable[[], Shown],
    consult: Callable[..., Outcome],
    kernel: Kernel,
    total: Total | None,
    given: tuple[Any, ...],
) -> Tensor:
    """What is left of a call inside a compiler, to which all that the first two give is constant.

    `given` is what its face was given, after the module or None.
    """
    owner, show = given[0], shown()
    memory = None if owner is None else owner._memory  # None too of a module made in here
    moved = show.sources.arguments(given)
    counts = [moved[position] for position in show.counts]
    options = [moved[position] for position in show.options]
    numbers: list[Any] = [0 if count is None else count for count in counts]
    came: list[Any] = [type(count).__name__ for count in counts]
    for position in show.tensors:
        tensor = moved[position]
        if isinstance(tensor, Tensor):
            came.append((tensor.dtype, tensor.device.type, tensor.dim()))
            numbers += tensor.shape
        else:
            came.append(tensor is None)
    answers: list[bool] = []
    assumed: list[list[Any]] = []
    outcome = consult(came, options, answers)
    while outcome.asks:
        terms = [numbers[term] if placed else term for placed, term in outcome.terms]
        if outcome.asks == "one class":
            answer = memory is not None and memory.one_class
        elif outcome.asks == "class axis":
            axes = () if memory is None else memory.class_axes
            known = any([rank == terms[0] and classes == terms[1] for rank, classes in axes])
            answer = known or (memory is not None and memory.settled)
        elif outcome.asks == "<":
            answer = not decided(terms[0] >= terms[1])
        else:
            answer = decided(terms[0] == terms[1])
            if not answer and outcome.asks == "=" and not decided(terms[0] != terms[1]):
                # Only the data will tell: PyTorch asserts such sizes where it runs.
                answer, assumed = True, [*assumed, terms]
        # A branch rather than `bool(...)`, which Dynamo cannot trace on symbols before 2.7.
        answers = [*answers, True if answer else False]  # noqa: SIM210  # see above
        outcome = consult(came, options, answers)
    signature = outcome.signature
    if outcome.text:
        name = signature.name if owner is None else type(owner).__name__
        words = [f"{numbers[term]}" if placed else term for placed, term in outcome.text]
        text = f"[{outcome.code}] {name}: {''.join(words)}"
        raise outcome.error(text)
    for one, other in assumed:
        torch._check(one == other)
    if memory is not None and outcome.learns:
        memory.unread, memory.one_class = False, True
        if outcome.settles:
            memory.settled = True
    for position, method, parts in outcome.steps:
        values = [numbers[term] if placed else term for placed, term in parts]
        if method == "view":
            moved[position] = moved[position].view(values)
        else:
            moved[position] = getattr(moved[position], method)(*values)
    named = {name: moved[position] for name, position in outcome.positions}
    strategy = outcome.strategy
    by_position, by_name = signature.given(strategy, named)
    # Where the kernel breaks the graph, nothing that only a trace knows is needed afterwards.
    loss = kernel(*by_position, **by_name)
    return averaged(loss, total, strategy, named) if strategy else loss
