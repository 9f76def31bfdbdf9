"""What a compiler is told of a call while it traces it: Python that is run, not traced.

The reader runs on numbers of which every comparison is a question. Where one is open, the compiler
is asked, and the reader begins anew with one more answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from safeloss._contract import codes
from safeloss._contract.model import Call, Kind, Refusal
from safeloss._messages.explain import one_line, rank_suffix
from safeloss._runtime.compiled import Ask, Consult, Operand, Raise, Run, TracedArgument
from safeloss._runtime.memory import ONE_CLASS
from safeloss._runtime.signature import Named, Signature
from safeloss._torch import constant_while_compiling, exporting
from safeloss.errors import ArgumentTypeError


class _Unanswered(Exception):  # noqa: N818  # it is no error
    def __init__(self, asks: str, operands: tuple[Operand, ...] = ()) -> None:
        super().__init__()
        self.asks, self.operands = asks, operands


class _Comparisons:
    """Those that have been made, in the order in which the reader comes to them."""

    def __init__(self, answers: Sequence[bool]) -> None:
        self.answers = answers
        self.known: dict[Any, bool] = {}

    def compare(self, asks: str, one: Any, other: Any) -> bool:
        if not all([isinstance(operand, _Number | int) for operand in (one, other)]):
            return NotImplemented
        operands = (_operand(one), _operand(other))
        if operands[0] == operands[1]:
            return asks == "="
        if asks == "=" and not (operands[0][0] and operands[1][0]):
            asks = "0"  # a size that only the data will tell is none that is written in a layout
        return self.answer(asks, operands)

    def answer(self, asks: str, operands: tuple[Operand, ...]) -> bool:
        if (asks, operands) not in self.known:
            if len(self.known) == len(self.answers):
                raise _Unanswered(asks, operands)
            self.known[asks, operands] = self.answers[len(self.known)]
        return self.known[asks, operands]


class _TracedEvidence:
    """The evidence of a module: each look at it is a question too."""

    def __init__(self, comparisons: "_Comparisons") -> None:
        self._comparisons = comparisons

    def knows_class_axis(self, rank: int, classes: Any) -> bool:
        return self._comparisons.answer("class axis", ((False, rank), _operand(classes)))

    @property
    def one_class(self) -> bool:
        return self._comparisons.answer("one class", ())


class _Number:
    """A number of the call, which can be compared, and named by its place."""

    __hash__ = None  # type: ignore[assignment]  # two that are equal look different

    def __init__(self, place: int, comparisons: _Comparisons, kind: str = "int") -> None:
        self.place = place
        self.kind = kind
        self.compare = comparisons.compare

    def __repr__(self) -> str:  # which `_operands` finds again in a text
        return f"\0{self.place}\0"

    def __eq__(self, other: object) -> bool:
        return self.compare("=", self, other)

    def __lt__(self, other: Any) -> bool:
        return self.compare("<", self, other)

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __gt__(self, other: Any) -> bool:
        return self.compare("<", other, self)

    def __ge__(self, other: Any) -> bool:
        return not self < other


_GIVEN: Any = object()  # a number or a list where a tensor may be, of which nothing is known


def _operand(value: Any) -> Operand:
    return (True, value.place) if isinstance(value, _Number) else (False, value)


def consult_for(signature: Signature) -> Consult:
    """What the compiler is told of a call of `signature`, after each answer that it gives."""

    @constant_while_compiling
    def consult(
        traced: Sequence[TracedArgument], options: Sequence[Any], answers: Sequence[bool]
    ) -> Ask | Raise | Run:
        try:
            return _outcome(signature, traced, options, _Comparisons(answers))
        except _Unanswered as question:
            return Ask(question.asks, question.operands)

    return consult


def _outcome(
    signature: Signature,
    traced: Sequence[TracedArgument],
    options: Sequence[Any],
    comparisons: _Comparisons,
) -> Raise | Run:
    inputs, names = signature.reader.inputs, signature.names
    integers = [names[i] for i in signature.positions(Kind.INTEGER)]
    counts = dict(zip(integers, traced))
    tensors = dict(zip([entry.name for entry in inputs], traced[len(counts) :]))
    for entry in inputs:
        missing = entry.weight and tensors[entry.name] is True
        if entry.tensor and not missing and not isinstance(tensors[entry.name], tuple):
            text = _operands(f"`{entry.name}` must be a tensor.{rank_suffix()}")
            return Raise(ArgumentTypeError, codes.NO_TENSOR, text)
    call = _call(signature, counts, tensors, options, comparisons)
    decision = signature.decide(call)
    weak = isinstance(decision, Refusal) and decision.weak
    if weak and signature.has_one_label(call):  # which cannot be read, and would be weak evidence
        decision = signature.decide(call._replace(evidence=ONE_CLASS))
    if isinstance(decision, Refusal):
        said = _operands(f"{one_line(inputs, call, decision)}{rank_suffix()}")
        return Raise(decision.error, decision.code, said)
    reading, strategy = decision
    steps = []
    for name, edit in reading.edits.items():
        _, device, _ = tensors[name]  # type: ignore[misc, str-unpack]  # no other is edited
        for method, arguments in edit.moves(call.shapes[name]) + edit.casts(device):
            parts = arguments[0] if method == "view" else arguments
            steps.append((names.index(name), method, tuple([_operand(part) for part in parts])))
    fills = [
        (names.index(name), _operand(masked.value), masked.shared, masked.missing, masked.own)
        for name, masked in reading.masked.items()
        if masked.value is not None
    ]
    return Run(
        signature.order,
        tuple(steps),
        tuple(fills),
        strategy,
        learns=not exporting(),  # which warns of a module that changes
        proves_class_axis=reading.proves is not None,
    )


def _call(
    signature: Signature,
    counts: Mapping[str, TracedArgument],
    tensors: Mapping[str, Any],
    options: Sequence[Any],
    comparisons: _Comparisons,
) -> Call:
    """The call, of which the numbers are those that can be compared."""
    chosen = [signature.names[i] for i in signature.positions(Kind.CHOICE)]
    given: Named = dict(zip(chosen, options))
    for place, (name, kind) in enumerate(counts.items()):
        given[name] = None if kind == "NoneType" else _Number(place, comparisons, str(kind))
    place, dtypes = len(counts), {}
    shapes: dict[str, Any] = {}  # of what stands for integers
    for name, tensor in tensors.items():
        if isinstance(tensor, tuple):
            dtypes[name], _, rank = tensor
            shapes[name] = tuple([_Number(place + axis, comparisons) for axis in range(rank)])
            place += rank
        elif tensor is False:
            given[name] = _GIVEN
    memory: Any = _TracedEvidence(comparisons)
    return signature.make_call(shapes, dtypes, given, memory)


def _operands(text: str) -> tuple[Operand, ...]:
    """`text`, of which every other part is the place of a number."""
    parts: list[str] = text.split("\0")
    return tuple([(bool(n % 2), int(part) if n % 2 else part) for n, part in enumerate(parts)])
