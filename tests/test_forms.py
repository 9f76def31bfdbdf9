"""How large sizes are decides nothing: what one call means, every call of the same form means."""

import inspect
import itertools
import random

import numpy as np
import pytest
import torch
from losses import LOSSES, Drawn, Loss, build, equal, several
from torch import Size

import safeloss
from safeloss import SafeCrossEntropyLoss, SafeLossError, functional
from safeloss._contract.model import Call, Refusal
from safeloss._runtime.memory import MOST_PLANS, shape_pattern
from safeloss._runtime.signature import Signature

DRAWS = 600  # of each signature, around what it declares
LARGEST = 9

SIGNATURES = {loss.safe.__name__: loss.safe.forward.signature for loss in LOSSES}
over_signatures = pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES.keys())


def drawn(signature: Signature, chance: random.Random) -> Call:
    """A call, right or wrong, of which many sizes are equal."""
    names = {"": chance.randrange(LARGEST)}
    shapes, dtypes = {}, {}
    for entry in signature.reader.inputs:
        if entry.weight and chance.random() < 0.5:
            continue
        pattern = chance.choice(entry.patterns)
        shape = []
        for dim in pattern.dims:
            several = chance.randrange(3) if dim.variadic else 1
            for axis in range(several):
                shape.append(names.setdefault(f"{dim.name}{axis}", chance.randrange(LARGEST)))
        if chance.random() < 0.3:
            shape.insert(chance.randrange(len(shape) + 1), 1)
        if shape and chance.random() < 0.2:
            shape[chance.randrange(len(shape))] = chance.randrange(LARGEST)
        if shape and chance.random() < 0.1:
            shape.pop()
        shapes[entry.name] = Size(shape)
        dtypes[entry.name] = chance.choice(pattern.dtypes or (torch.float32, torch.int64))
    options = {
        p.name: None if p.default is inspect.Parameter.empty else p.default
        for p in signature.parameters
        if p.name not in shapes
    }
    for p in signature.parameters:
        if p.choices:
            options[p.name] = chance.choice(p.choices)
    for _, name in signature.reader.sized:
        options[name] = chance.choice([None, chance.randrange(1, LARGEST)])
    return Call(shapes, dtypes, options)


def renamed(call: Call, signature: Signature, chance: random.Random) -> Call:
    """The same call with other sizes, where they mean nothing by themselves: 0, 1 and 2 do."""
    other = [0, 1, 2, *chance.sample(range(3, 100), LARGEST)]
    shapes = {name: Size([other[size] for size in shape]) for name, shape in call.shapes.items()}
    options = dict(call.options)
    for _, name in signature.reader.sized:
        options[name] = None if options[name] is None else other[options[name]]
    return Call(shapes, call.dtypes, options)


def verdict(call: Call, signature: Signature):
    """Everything that is kept of a call, or why it is refused."""
    reading = signature.reader.read(call)
    if isinstance(reading, Refusal):
        return reading.error, reading.rule
    strategy = signature.strategy(reading, call)
    if isinstance(strategy, Refusal):
        return strategy.error, strategy.rule
    moves = {
        name: (edit.moves(call.shapes[name]), edit.dtype)
        for name, edit in reading.edits.items()
        if not edit.names_sizes(call.shapes[name])
    }
    patterns = {name: pattern.text for name, pattern in reading.patterns.items()}
    warned = signature.reader.warnings(call)
    return patterns, list(reading.edits), moves, strategy, reading.proves, warned


def key(call: Call, signature: Signature):
    sized = [name for _, name in signature.reader.sized]
    return (*call.shapes.values(), *(call.options[name] for name in sized))


@over_signatures
def test_a_verdict_depends_on_the_form(signature: Signature) -> None:
    chance, accepted = random.Random(0), 0
    for _ in range(DRAWS):
        call = drawn(signature, chance)
        other = renamed(call, signature, chance)
        assert verdict(call, signature) == verdict(other, signature), (call, other)
        named = [shape_pattern(key(each, signature)[: len(call.shapes)]) for each in (call, other)]
        assert named[0] == named[1]
        accepted += len(verdict(call, signature)) > 2
    assert 10 < accepted < DRAWS


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_new_size_of_a_known_form_is_not_read_again(loss: Loss, monkeypatch) -> None:
    safe, native = build(loss, Drawn([], {**loss.options, "check_values": "never"}))
    safe(*loss.batch(11))
    monkeypatch.setattr(Signature, "call", None)  # which the reading begins with
    for samples in (12, 13, 50):
        inputs = loss.batch(samples)
        assert equal(safe(*inputs), native(*inputs))
        assert equal(safe(*inputs), native(*inputs))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_nor_is_one_whose_arguments_are_aligned_and_cast(loss: Loss, monkeypatch) -> None:
    safe, _ = build(loss, Drawn([], {**loss.options, "check_values": "never"}))

    def other(samples: int) -> list[torch.Tensor]:
        first, *others = loss.batch(samples)
        wide = [x.double() if x.is_floating_point() else x.int() for x in others]
        aligned = wide[: loss.loose - 1]
        return [first, *[x.unsqueeze(-1) for x in aligned], *wide[len(aligned) :]]

    safe(*other(11))
    monkeypatch.setattr(Signature, "call", None)
    for samples in (12, 13):
        assert several(safe(*other(samples)))[-1].isfinite()


def test_the_form_tells_sizes_that_decide_apart() -> None:
    apart = [
        (Size([4, 3]), Size([4])),
        (Size([4, 4]), Size([4])),
        (Size([4, 3]), Size([3])),
        (Size([4, 2]), Size([4])),
        (Size([4, 1]), Size([4])),
        (Size([4, 0]), Size([4])),
        (Size([1, 3]), Size([1])),
        (Size([4, 3]), Size([4, 1])),
        (Size([4, 3]), 3),
        (Size([4, 3]), 4),
        (Size([4, 3]), 5),
        (Size([4, 3]), None),
        (Size([4, 3]), (Size([3]), torch.float32)),
        (Size([4, 3]), (Size([4]), torch.float32)),
        (Size([4, 3]), (Size([3]), torch.float64)),
    ]
    assert len({shape_pattern(key) for key in apart}) == len(apart)
    assert shape_pattern((Size([4, 3]), Size([4]))) == shape_pattern((Size([32, 10]), Size([32])))


@pytest.mark.parametrize("count", [3, torch.tensor(3), np.int64(3)], ids=repr)
def test_a_size_that_an_option_says_is_held_to_it(count) -> None:
    loss = safeloss.MultiLabelBCE(num_classes=count, check_values="never")
    loss(torch.zeros(4, 3), torch.zeros(4, 3))
    loss(torch.zeros(5, 3), torch.zeros(5, 3))
    with pytest.raises(SafeLossError):
        loss(torch.zeros(5, 4), torch.zeros(5, 4))


def test_a_tie_is_none_of_the_forms_that_were_read() -> None:
    logits, targets = torch.zeros(2, 3, 3), torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(safeloss.AmbiguousLayoutError):
        functional.cross_entropy(logits, targets)
    for classes, time in ((4, 3), (5, 4), (4, 6)):  # of other numbers of classes
        functional.cross_entropy(torch.zeros(2, classes, time), torch.zeros(2, time).long())
    with pytest.raises(safeloss.AmbiguousLayoutError):
        functional.cross_entropy(logits, targets)
    functional.cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 4).long())
    assert functional.cross_entropy(logits, targets).isfinite()


@pytest.mark.parametrize("shape", [(4, 3, 5), (5, 3, 4)])
def test_repairs_of_new_sizes(shape) -> None:
    """Views that name sizes are made anew; the others serve all sizes of the form."""
    loss = SafeCrossEntropyLoss(reduction="none", class_dim=-1)
    for batch, time, classes in ((2, 3, 4), shape, (7, 8, 9), (7, 9, 8)):
        logits, targets = torch.randn(batch, time, classes), torch.zeros(batch, time).long()
        for given in (targets, targets.unsqueeze(-1), targets[:, None, :, None], targets.int()):
            expected = torch.nn.functional.cross_entropy(
                logits.movedim(-1, 1), targets, reduction="none"
            )
            assert torch.equal(loss(logits, given), expected)


def test_the_store_of_forms_is_bounded() -> None:
    loss, most = safeloss.SafeMSELoss(check_values="never"), 0
    for shape in itertools.product((1, 2, 3), repeat=7):
        x = torch.zeros(()).expand(shape)
        assert loss(x, x) == 0
        most = max(most, len(loss._memory.plans.forms))
    assert 0 < len(loss._memory.plans.forms) <= most <= MOST_PLANS < 3**7
