"""The calls that people write, as rows of layouts.

A layout is a string of axes, as in "B C 1": an axis has a name wherever it stands, so that what
a call means is known even where two sizes are equal.
"""

from typing import NamedTuple, TypeAlias

Axes: TypeAlias = tuple[str, ...]

SIZES = {"B": 6, "C": 3, "D": 7, "H": 2, "W": 4, "T": 5, "N": 5, "S": 2, "1": 1}

# The axes of a declared layout, as the rows call them; those not named here are any others.
LETTERS = {"batch": "B", "classes": "C", "features": "D", "time": "T"}

# What the constructors of losses with parameters of their own need.
REQUIRED = {
    "in_features": SIZES["D"],
    "num_classes": SIZES["C"],
    "n_classes": SIZES["C"],
    "cutoffs": [2],
}


class Pair(NamedTuple):
    """The layouts of one call, in the order of its inputs.

    A loss whose inputs all share one layout may have more of them: then each in turn has the
    last one, and the others follow the first.
    """

    layouts: tuple[Axes, ...]
    where: str = ""  # "B == C": sizes that happen to be equal

    def __str__(self) -> str:
        first, *others = [f"[{', '.join(axes)}]" for axes in self.layouts]
        return f"{first} with {', '.join(others)}" + (f", {self.where}" if self.where else "")

    @property
    def sizes(self) -> dict[str, int]:
        names = self.where.split(" == ") if self.where else ["1"]
        last = names.pop() if names[-1].isdecimal() else ""
        size = int(last) if last else max(SIZES[name] for name in names)
        return {**SIZES, **dict.fromkeys(names, size)}


def _pairs(*rows: str) -> tuple[Pair, ...]:
    """Rows as they are written below: "B C / B, B == C"."""
    split = [row.partition(", ") for row in rows]
    return tuple(
        Pair(tuple(tuple(layout.split()) for layout in layouts.split("/")), where)
        for layouts, _, where in split
    )


# Each grid begins with the plain call.
ELEMENTS = _pairs(
    "B C / B C",
    "B C / B C, B == C",
    "B / B",
    "B 1 / B",
    "B / B 1",
    "1 B / B",
    "B / 1 B",
    "B 1 / 1 B",
    "B T 1 / B T",
    "B T 1 / B T, B == T",
    "B T / B T 1",
    "B N 1 / B 1 N",
    "B 1 H W / B H W",
    "B H W / B 1 H W",
    "B C 1 1 / B C",
    "B C / B 1",
    "B C / 1 C",
    "B C / C",
    "B C /",
    "B C / B",
    "B C / B, B == C",
    "B C / C B",
    "B C / C B, B == C",
)
LABELS = _pairs(
    "B C / B C",
    "B C / B C, B == C",
    "C / C",
    "B 1 / B",
    "B / B 1",
    "B C / B C 1",
    "B C / 1 B C",
    "B C 1 1 / B C",
    "B C / B 1",
    "B C / 1 C",
    "B C / B",
    "B C / B, B == C",
    "B C / C B",
    "B C / C B, B == C",
)
CLASSES = _pairs(
    "B C / B",
    "B C / B, B == C",
    "C /",
    "B C / B 1",
    "B C / 1 B",
    "C / 1",
    "1 C /",
    "B C / B, C == 1",
    "C B / B",
    "C B / B, B == C",
)
SPACES = (
    *CLASSES,
    *_pairs(
        "B C T / B T",
        "B C T / B T, T == C",
        "B T C / B T",
        "B T C / B T, T == C",
        "B C H W / B H W",
        "B C H W / B 1 H W",
        "B C H W / B H W 1",
        "B H W C / B H W",
        "B H W C / B H W, H == W == C",
    ),
)
PROBABILITIES = _pairs(
    "B C / B C",
    "B T C / B T C",
    "B / B",
)
POINTS = _pairs(
    "B D / B D",
    "B D / B D, B == D",
    "D / D",
    "B D / B D 1",
    "B 1 D / B D",
    "B D / 1 D",
    "B D / D",
    "B T D / B 1 D",
    "B D / D B",
    "B D / D B, B == D",
)
EMBEDDINGS = _pairs(
    "B D / B D / B",
    "B D / B D / B, B == D",
    "D / D /",
    "B D / B D / B 1",
    "B D / B D / 1 B",
    "B D / 1 D / B",
    "B D / D / B",
    "B D / B D / 1",
    "B D / B D /",
    "B D / D B / B, B == D",
)
FEATURES = _pairs(
    "B D / B",
    "B D / B, B == D",
    "D /",
    "B D / B 1",
    "B D / 1 B",
    "D / 1",
    "1 D /",
    "B D / B C",
    "D B / B",
    "D B / B, B == D",
)
SEQUENCES = _pairs(
    "T B C / B S / B / B",
    "T B C / B S / B / B, B == T",
    "B T C / B S / B / B",
    "B T C / B S / B / B, B == T",
    "T B C / S B / B / B",
    "T B C / B S 1 / B / B",
)


class Grid(NamedTuple):
    """The calls of the losses that declare the same axes."""

    title: str
    pairs: tuple[Pair, ...]


# By the declared axes of the inputs, or by those that all of them share.
GRIDS = {
    ("[*shape]",): Grid("Element by element", ELEMENTS),
    ("[*batch, outputs]",): Grid("Element by element", ELEMENTS),
    ("[*batch, classes]",): Grid("Element by element", ELEMENTS),
    ("[*batch, features]",): Grid("Triplets", POINTS),
    ("[batch, classes]",): Grid("Several labels", LABELS),
    ("[batch, classes]", "[batch]"): Grid("Classes", CLASSES),
    ("[batch, classes, *space]", "[batch, *space]"): Grid("Classes", SPACES),
    ("[batch, features]", "[batch, features]", "[batch]"): Grid("Pairs", EMBEDDINGS),
    ("[batch, features]", "[batch]"): Grid("Features", FEATURES),
    ("[batch, features]", "[batch, *space]"): Grid("Features", FEATURES),
    ("[time, batch, classes]", "[batch, _]", "[batch]", "[batch]"): Grid("Sequences", SEQUENCES),
}
# Where any axes are declared, but distances are taken along the last one.
BY_NAME = {"triplet_margin_with_distance_loss": Grid("Triplets", POINTS)}

# The first input, and a weight that is spread over it.
SPREAD = _pairs(
    "B C / C",
    "B C / C, B == C",
    "B C / B C",
    "B C / B 1",
    "B C / 1 C",
    "B C /",
    "B C / B",
    "B C / B, B == C",
    "B T C / C",
    "B T C / C, T == C",
    "B C H W / C",
    "B C H W / C, C == W",
)
# ... and one number for each class.
PER_CLASS = _pairs(
    "B C / C",
    "B C / C, B == C",
    "B C / B",
    "B C / B, B == C",
)
