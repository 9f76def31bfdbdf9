"""A call inside a compiler, which knows sizes only by their symbols.

To trace through the reader would have the compiler guard on all that it touches, at every call. So
it is the reader that asks (`size_oracle`), and what is traced are the answers.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from safeloss._contract import codes
from safeloss._runtime.masks import filled
from safeloss._runtime.reductions import broken_count_rule, reducer
from safeloss._runtime.runner import Arguments, run_kernel
from safeloss._runtime.signature import Counting, Kernel, Order
from safeloss._torch import decided
from safeloss.errors import SafeLossError, ValueRangeError

Operand: TypeAlias = tuple[bool, Any]  # the place of a number, or a value that is known
# Of a count the name of its type; of a tensor what is known of it, or else whether it is None.
TracedArgument: TypeAlias = str | tuple[torch.dtype, str, int] | bool


class Ask(NamedTuple):
    """A question for the compiler.

    How two numbers compare ("="; "0": one and a constant; "<"), or what earlier calls of a module
    have proved: the "class axis" of a rank and a number of classes, or that "one class" is meant.
    """

    question: str
    operands: tuple[Operand, ...]
    kind: Literal["ask"] = "ask"  # told apart by a string: Dynamo would guard on a class


class Raise(NamedTuple):
    """An error to raise, with its text but for the name of the loss."""

    error: type[SafeLossError]
    code: str
    text: tuple[Operand, ...]
    kind: Literal["raise"] = "raise"


class Run(NamedTuple):
    """What to trace."""

    order: Order
    steps: tuple[tuple[int, str, tuple[Operand, ...]], ...]  # by position, a method
    # By position: the number that is filled in, and the axes; see `Masked`.
    fills: tuple[tuple[int, Operand, tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]
    strategy: tuple[str, ...]  # of the reduction
    learns: bool  # that it was called; the module is not asked: that would be guarded on
    proves_class_axis: bool  # which axis holds the classes
    kind: Literal["run"] = "run"


Consult: TypeAlias = Callable[[list[Any], list[Any], list[bool]], Ask | Raise | Run]


def traced_call(
    consult: Consult,
    name: str,
    kernel: Kernel,
    counting: Counting,
    positions: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    owner: Any,
    arguments: Arguments,
) -> Tensor:
    """What is left of a call inside a compiler, to which all that `consult` gives is constant.

    `positions` are those of integers, of other options that decide, and of tensors.
    """
    memory = None if owner is None else owner._memory  # None too of a module made in here
    integers, chosen, tensors = positions
    counts = [arguments[position] for position in integers]
    options = [arguments[position] for position in chosen]
    numbers: list[Any] = [0 if count is None else count for count in counts]
    traced: list[TracedArgument] = [type(count).__name__ for count in counts]
    for position in tensors:
        tensor = arguments[position]
        if isinstance(tensor, Tensor):
            traced.append((tensor.dtype, tensor.device.type, tensor.dim()))
            numbers += tensor.shape
        else:
            traced.append(tensor is None)
    answers: list[bool] = []
    assumed: list[list[Any]] = []
    answer: Any
    outcome = consult(traced, options, answers)
    while outcome.kind == "ask":
        operands = [
            numbers[operand] if is_place else operand for is_place, operand in outcome.operands
        ]
        if outcome.question == "one class":
            answer = memory is not None and memory.one_class
        elif outcome.question == "class axis":
            axes = () if memory is None else memory.class_axes
            known = any([rank == operands[0] and classes == operands[1] for rank, classes in axes])
            answer = known or (memory is not None and memory.class_axis_known)
        elif outcome.question == "<":
            answer = not decided(operands[0] >= operands[1])
        else:
            answer = decided(operands[0] == operands[1])
            if not answer and outcome.question == "=" and not decided(operands[0] != operands[1]):
                # Only the data will tell: PyTorch asserts such sizes where it runs.
                answer, assumed = True, [*assumed, operands]
        # A branch rather than `bool(...)`, which Dynamo cannot trace on symbols before 2.7.
        answers = [*answers, True if answer else False]  # noqa: SIM210  # see above
        outcome = consult(traced, options, answers)
    if outcome.kind == "raise":
        words = [
            f"{numbers[operand]}" if is_place else operand for is_place, operand in outcome.text
        ]
        callee = name if owner is None else type(owner).__name__
        text = f"[{outcome.code}] {callee}: {''.join(words)}"
        raise outcome.error(text)
    for one, other in assumed:
        torch._check(one == other)
    if memory is not None and outcome.learns:
        memory.values_unchecked, memory.one_class = False, True
        if outcome.proves_class_axis:
            memory.class_axis_known = True
    given = [*arguments]
    for position, method, parts in outcome.steps:
        values = [numbers[operand] if is_place else operand for is_place, operand in parts]
        if method == "view":
            given[position] = given[position].view(values)
        else:
            given[position] = getattr(given[position], method)(*values)
    for position, (is_place, operand), shared, missing, own in outcome.fills:
        value = numbers[operand] if is_place else operand
        mask = given[outcome.order.at_call[1]]
        given[position] = filled(given[position], mask, value, shared, missing, own)
    if "divided" in outcome.strategy:
        count = given[outcome.order.at_call[2]]
        rule = broken_count_rule(count, decided) if isinstance(count, (int, float)) else ""
        if rule:
            callee = name if owner is None else type(owner).__name__
            raise ValueRangeError(f"[{codes.DENOMINATOR}] {callee}: {rule}")
    # Where the kernel breaks the graph, nothing that only a trace knows is needed afterwards.
    order, strategy = outcome.order, outcome.strategy
    reduce = reducer(strategy, counting, order) if strategy else None
    return run_kernel(kernel, order, strategy, reduce, given)
