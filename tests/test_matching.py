"""The plain matcher says what jaxtyping says, and `fits` is the one rule of alignment."""

import inspect
import itertools
import math
import re
import warnings
from typing import Any

import jaxtyping
import pytest
import torch
from beartype.door import is_bearable
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import AbstractDtype, Bool, Float, Integer, Real, Shaped, jaxtyped
from torch import Tensor

from safeloss import layouts
from safeloss._contract.model import Edit
from safeloss._contract.patterns import fits, parse

# Agreement with jaxtyping -------------------------------------------------------------------------

SINGLE = ["a", "b", "c", "2", "1", "_", "_a", "#a", "#b", "#2", "rows=2", "rows=1"]
COMPUTED = ["a-1", "a+b", "2*b", "#a+1", "b//2", "(a+1)%2", "-1"]
SEVERAL = ["...", "*s", "*t", "*#s", "#*s", "*_", "*_s"]
sizes = st.integers(0, 3)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """What the axes are where all is well: most shapes are spelled from it, so that most fit."""
    world: dict[str, Any] = {name: draw(sizes) for name in "abc"}
    world["s"], world["t"] = (tuple(draw(st.lists(sizes, max_size=3))) for _ in "st")
    return world


def _axis(draw: st.DrawFn, word: str, world: dict[str, Any]) -> tuple[int, ...]:
    """The sizes that a word of a hint has in the world, or now and then any others."""
    chance = draw(st.integers(0, 9))
    if word in SEVERAL:
        if chance == 0 or "_" in word or word == "...":
            return tuple(draw(st.lists(sizes, max_size=2)))
        whole = world[word[-1]]
        if "#" in word and chance < 6:
            start = draw(st.integers(0, len(whole)))
            return tuple(1 if draw(st.booleans()) else size for size in whole[start:])
        return whole
    if chance == 0 or word.startswith("_"):
        return (draw(sizes),)
    if word.startswith("#") and chance < 4:
        return (1,)
    return (max(0, eval(word.lstrip("#").rpartition("=")[2], dict(world))),)


@st.composite
def calls(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...]]]:
    """Hints and the shapes that come for them, one after the other in one context."""
    world, rows = draw(worlds()), []
    for position in range(draw(st.integers(1, 4))):
        # Axes are computed from those that came before: jaxtyping evaluates the text.
        words = draw(st.lists(st.sampled_from(SINGLE + COMPUTED * (position > 0)), max_size=3))
        if draw(st.booleans()):
            words.insert(draw(st.integers(0, len(words))), draw(st.sampled_from(SEVERAL)))
        shape = tuple(size for word in words for size in _axis(draw, word, world))
        rows.append((" ".join(words), shape))
    return rows


def _verdicts_of_jaxtyping(rows: list[tuple[str, tuple[int, ...]]]) -> list[bool | str]:
    verdicts: list[bool | str] = []
    with jaxtyped("context"):
        for text, shape in rows:
            try:
                tensor = torch.empty(shape, device="meta")
                verdicts.append(isinstance(tensor, Shaped[Tensor, text]))
            except jaxtyping.AnnotationError:  # computed from an axis that is not bound
                verdicts.append("unbound")
    return verdicts


def _verdicts_of_the_matcher(rows: list[tuple[str, tuple[int, ...]]]) -> list[bool | str]:
    verdicts: list[bool | str] = []
    axes: dict[str, Any] = {}
    for text, shape in rows:
        (pattern,) = parse(Shaped[Tensor, text])
        try:
            bound = pattern.match(shape, axes)
        except KeyError:
            verdicts.append("unbound")
            continue
        axes = axes if bound is None else bound
        verdicts.append(bound is not None)
    return verdicts


@given(calls())
def test_the_matcher_agrees_with_jaxtyping(rows) -> None:
    # Which is met first, a size that differs or an axis that is not bound, is no part of a verdict.
    ours, theirs = _verdicts_of_the_matcher(rows), _verdicts_of_jaxtyping(rows)
    assert [verdict is True for verdict in ours] == [verdict is True for verdict in theirs]


def test_the_property_is_about_something() -> None:
    """Most of what is drawn fits, and some of it does not: neither side is an empty claim."""
    seen: list[bool | str] = []

    @settings(derandomize=True, max_examples=200)  # few draws may all fit
    @given(calls())
    def look(rows) -> None:
        seen.extend(_verdicts_of_the_matcher(rows))

    look()
    assert seen.count(True) > len(seen) / 4
    assert seen.count(False) > 0


SPELLINGS = [
    # hints in one context,             shapes,                   fit?
    (["in out"], [(2, 3)], [True]),  # Python's keywords are axes like others
    (["batch class", "class"], [(2, 3), (2,)], [True, False]),
    (["a b", "min(a,b)"], [(2, 3), (2,)], [True, True]),  # and its functions can be called
    (["a b", "min(a,b)"], [(2, 3), (3,)], [True, False]),
    (["a len", "len-1"], [(2, 3), (2,)], [True, True]),  # unless they are axes themselves
    (["rows=4 cols=3"], [(4, 3)], [True]),
    (["dim dim"], [(2, 3)], [False]),
    (["dim dim"], [(3, 3)], [True]),
    (["*s a", "a *s"], [(2, 3, 4), (4, 2, 3)], [True, True]),
    (["*#s", "*#s", "*s"], [(1, 3), (2, 1), (2, 3)], [True, True, True]),
    (["*#s", "*#s", "*s"], [(1, 3), (2, 1), (2, 1)], [True, True, False]),
    (["*#s", "*s"], [(1,), (3,)], [True, True]),
    (["*#s", "*s"], [(2,), (3,)], [True, False]),
    (["*s", "*#s"], [(2, 3), (1,)], [True, True]),
    (["*s", "*#s"], [(1,), (2, 3)], [True, False]),
    (["#a", "a"], [(1,), (3,)], [True, True]),  # broadcast, it has bound nothing
    (["#a", "#a"], [(2,), (3,)], [True, False]),
    (["a", "a-1"], [(3,), (2,)], [True, True]),
    (["..."], [()], [True]),
    ([""], [()], [True]),
    ([""], [(1,)], [False]),
]


@pytest.mark.parametrize(("hints", "shapes", "verdicts"), SPELLINGS)
def test_spellings(hints, shapes, verdicts) -> None:
    rows = list(zip(hints, shapes))
    assert _verdicts_of_jaxtyping(rows) == verdicts, "the table is wrong"
    assert _verdicts_of_the_matcher(rows) == verdicts


CLASSES = [
    value
    for value in vars(jaxtyping).values()
    if inspect.isclass(value) and issubclass(value, AbstractDtype) and value is not AbstractDtype
]
CUSTOM = [
    type("OneName", (AbstractDtype,), {"dtypes": "float32"}),
    type("Names", (AbstractDtype,), {"dtypes": ["float16", "int8"]}),
    type("Regex", (AbstractDtype,), {"dtypes": re.compile("u?int")}),  # matched at the beginning
    type("NoRegex", (AbstractDtype,), {"dtypes": "float.*"}),  # a string is a name
]


def _scalars() -> list[Tensor]:
    """One tensor of every dtype that has any: quantised ones are made in other ways."""
    dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    scalars = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some dtypes are deprecated or experimental
        for dtype in sorted(dtypes, key=str):
            try:
                scalars.append(torch.empty((), dtype=dtype, device="meta"))
            except (RuntimeError, NotImplementedError):  # a dtype of which torch makes none
                continue
    return scalars


SCALARS = _scalars()


@pytest.mark.parametrize("kind", CLASSES + CUSTOM, ids=lambda kind: kind.__name__)
def test_the_matcher_agrees_with_jaxtyping_on_element_types(kind) -> None:
    hint = kind[Tensor, "..."]
    (pattern,) = parse(hint)
    plain = [str(scalar.dtype) for scalar in SCALARS if scalar.dtype in pattern.dtypes]
    assert plain == [str(scalar.dtype) for scalar in SCALARS if isinstance(scalar, hint)]


def test_the_element_types_are_torch_s() -> None:
    assert len(SCALARS) >= 16
    assert len(CLASSES) >= 25


def test_hints_within_hints() -> None:
    narrower = Real[Float[Tensor, "a b"], "*s"]
    (pattern,) = parse(narrower)
    assert pattern.match((5, 2, 3), {}) == {"*s": (5,), "#s": False, "a": 2, "b": 3}
    assert torch.float32 in pattern.dtypes
    assert torch.int64 not in pattern.dtypes


def test_what_is_no_array_is_passed_over() -> None:
    assert parse(int) == parse(None) == parse(Tensor) == parse(tuple[int, str]) == ()
    kinds = [p.kind for p in parse(Float[Tensor, ""] | None | int | Bool[Tensor, "a"])]
    assert kinds == ["Float", "Bool"]


# Layouts ------------------------------------------------------------------------------------------

LAYOUTS = {
    name: value
    for name, value in vars(layouts).items()
    if name[0].isupper()
    and parse(value)
    and getattr(value, "__module__", "") != "safeloss._contract.values"
}


def test_all_layouts_are_here() -> None:
    """Every alias that the vocabulary declares by `Name: TypeAlias = ...`, and at least these."""
    declared = {name for name in vars(layouts)["__annotations__"] if not name.startswith("_")}
    assert declared == set(LAYOUTS)
    assert {"Scores", "Labels", "ClassScores", "ClassIndices", "BinaryLogits"} <= declared


KINDS = (torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float64, torch.complex64)


@pytest.mark.parametrize("name", LAYOUTS)
@given(shape=st.lists(sizes, max_size=4), dtype=st.sampled_from(KINDS))
def test_layouts_mean_to_the_matcher_what_they_mean_to_beartype(name, shape, dtype) -> None:
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    plain = any(dtype in p.dtypes and p.match(shape, {}) is not None for p in parse(LAYOUTS[name]))
    with jaxtyped("context"):
        assert plain == is_bearable(tensor, LAYOUTS[name])


CLASSES_LAST = [
    # layout,                            as `class_dim=-1` spells it,    a shape,       its axes
    (Float[Tensor, "batch classes *space"], "[batch, *space, classes]", (2, 5, 6, 3)),
    (Integer[Tensor, "batch *space"], "[batch, *space]", (2, 5, 6)),
    (Float[Tensor, " classes"], "[classes]", (3,)),
    (Float[Tensor, "*shape"], "[*shape]", (2, 3)),
    (Float[Tensor, ""], "[]", ()),
]


@pytest.mark.parametrize(("hint", "text", "shape"), CLASSES_LAST)
def test_classes_last(hint, text, shape) -> None:
    (pattern,) = parse(hint)
    last = pattern.classes_last()
    assert last.text == text
    assert last.classes_last() == last
    bound = last.match(shape, {})
    assert bound is not None
    assert bound.get("classes", 3) == 3
    assert last.spell(bound) == shape
    assert last._replace(text=pattern.text, dims=pattern.dims) == pattern, "nothing else changes"


# The rule of alignment --------------------------------------------------------------------------

shapes = st.lists(st.integers(0, 3), max_size=5).map(tuple)


@st.composite
def loosened(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and the same with axes of size 1 put in."""
    shape = draw(shapes)
    longer = list(shape)
    for _ in range(draw(st.integers(0, 3))):
        longer.insert(draw(st.integers(0, len(longer))), 1)
    return shape, tuple(longer)


pairs = st.tuples(shapes, shapes) | loosened()


def _by_trying(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """The rule in the words of the design: leave out axes of size 1 of the longer one."""
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    ones = [axis for axis, size in enumerate(longer) if size == 1]
    return any(
        shorter == tuple(size for axis, size in enumerate(longer) if axis not in left_out)
        for left_out in itertools.combinations(ones, len(longer) - len(shorter))
    )


@given(pairs)
def test_fits_is_what_leaving_out_ones_gives(pair) -> None:
    assert fits(*pair) == _by_trying(*pair)


@given(pairs)
def test_fits_is_symmetric(pair) -> None:
    one, other = pair
    assert fits(one, other) == fits(other, one)


@given(pairs)
def test_what_fits_differs_by_ones_only(pair) -> None:
    one, other = pair
    if fits(one, other):
        assert [size for size in one if size != 1] == [size for size in other if size != 1]
        assert (one == other) == (len(one) == len(other)), "crossed ones do not fit"


@given(loosened())
def test_ones_that_are_only_put_in_fit(pair) -> None:
    assert fits(*pair)


@given(loosened(), st.booleans(), st.randoms())
def test_what_fits_is_viewed_in_the_order_of_its_elements(pair, swap, random) -> None:
    shape, spelled = reversed(pair) if swap else pair
    order = list(range(len(shape)))
    random.shuffle(order)
    # Of any strides: as a permutation of a contiguous tensor.
    base = torch.arange(math.prod(shape)).reshape([shape[axis] for axis in order])
    tensor = base.permute([order.index(axis) for axis in range(len(order))])
    assert tensor.shape == shape
    viewed = Edit(spelled).apply(tensor)
    assert viewed.shape == spelled
    assert viewed.flatten().tolist() == tensor.flatten().tolist()
    assert viewed.untyped_storage().data_ptr() == base.untyped_storage().data_ptr()


B, C, T, H, W = 4, 3, 5, 6, 7
FITS = [
    # shape,         spelled,      fits?
    ((B, 1), (B,), True),
    ((1, B), (B,), True),
    ((B, T, 1), (B, T), True),
    ((B, 1, H, W), (B, H, W), True),
    ((B, 3, 1, 1), (B, 3), True),
    ((1,), (), True),
    ((1, 1, 1), (), True),
    ((1, B, 1), (B,), True),
    ((1, 1), (1,), True),
    ((B, 1), (1, B), False),  # crossed
    ((B, T, 1), (B, 1, T), False),
    ((B, 1, C), (1, B, 1, C), True),
    ((1, B, C), (B, C, 1), False),
    ((B, 1, 1), (1, B), False),  # crossed, although the ranks differ
    ((B, C), (B, 1), False),  # 1 against n
    ((B, T), (1, T), False),
    ((B, C), (B,), False),
    ((B, B), (B,), False),
    ((B,), (), False),
    ((B, C), (C, B), False),  # as many elements
    ((B, C), (B * C,), False),
    ((B, 2, 3), (B, 6), False),
    ((0,), (), False),
    ((0, 1), (0,), True),
    ((0, 2), (0,), False),  # no elements either
]


@pytest.mark.parametrize(("shape", "spelled", "verdict"), FITS)
def test_fits(shape, spelled, verdict) -> None:
    assert fits(shape, spelled) is verdict
    assert fits(torch.Size(shape), spelled) is verdict
    assert fits(list(shape), torch.Size(spelled)) is verdict


ALIGNS = [
    # layout,              shape,        spelled,      aligns?
    ("*shape", (1, B), (B,), True),
    ("batch *space", (1, B), (B,), False),  # another batch axis, which the first argument has lost
    ("batch *space", (B, 1), (B,), True),
    ("batch *space", (B, 1, H, W), (B, H, W), True),
    ("batch *space", (1, B, H, W), (B, H, W), False),
    ("batch *space", (H, W), (1, H, W), True),  # a squeezed last batch
    ("batch *space", (), (1,), True),
    ("batch *space", (1, 1), (1,), True),
    ("batch classes", (C,), (1, C), True),
    ("batch classes", (1, B, C), (B, C), True),
    (" classes", (1, C), (C,), True),
]


@pytest.mark.parametrize(("text", "shape", "spelled", "verdict"), ALIGNS)
def test_aligns(text, shape, spelled, verdict) -> None:
    (pattern,) = parse(Float[Tensor, text])
    assert pattern.aligns(shape, spelled) is verdict
