"""What is measured, in which order: the losses that matter most come first, in all sections."""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.cases import CASES, Case
from benchmarks.timing import Pace
from benchmarks.weights import FORMS, WEIGHTED

MAIN = {case.name for case in CASES[:4]}  # BCE with logits, cross entropy, MultiLabelBCE twice
FORWARD, BACKWARD = False, True
BOTH = (FORWARD, BACKWARD)


class Part(NamedTuple):
    """A section, with the sizes and passes that it measures."""

    section: str
    sizes: tuple[int, ...]
    passes: tuple[bool, ...] = BOTH


class Step(NamedTuple):
    """One loss at one size in one section."""

    section: str
    case: Case
    elements: int
    passes: tuple[bool, ...]

    def __str__(self) -> str:
        return f"{self.section}: {self.case.name}, {self.elements:,} elements"


class Plan(NamedTuple):
    """How much a run measures."""

    main: tuple[Part, ...]
    others: tuple[Part, ...]
    pace: Pace
    budget_s: float


SIZES = (1, 2**8, 2**12, 2**16, 2**20, 2**24, 2**26)
FULL = Plan(
    main=(
        Part("eager", SIZES),
        Part("host", (1, 2**12, 2**16, 2**20, 2**24)),
        Part("synchronisations", (2**12,), (BACKWARD,)),
        Part("memory", (2**20, 2**24), (BACKWARD,)),
        Part("graph", (1, 2**12, 2**20, 2**24)),
        Part("bfloat16", (2**12, 2**24)),
        Part("autocast", (2**12, 2**24)),
        Part("naive", (1, 2**12, 2**20, 2**24)),
        Part("kernels", (2**12, 2**24), (BACKWARD,)),
        *(Part(form, (2**12, 2**24)) for form in FORMS),
        Part("compiled", (2**12, 2**24)),
    ),
    # Compilation takes seconds for each way and pass, so it comes last, and is rehearsed above.
    others=(
        Part("eager", SIZES),
        Part("kernels", (2**16,), (BACKWARD,)),
        Part("synchronisations", (2**12,), (BACKWARD,)),
        Part("host", (1, 2**16, 2**20)),
        Part("memory", (2**20,), (BACKWARD,)),
        Part("bfloat16", (2**12, 2**24), (BACKWARD,)),
        Part("autocast", (2**12, 2**24), (BACKWARD,)),
        Part("naive", (1, 2**20), (BACKWARD,)),
        *(Part(form, (2**12, 2**24)) for form in FORMS),
        # A capture that fails leaves the device's generator of random numbers unusable.
        Part("graph", (2**12, 2**24), (BACKWARD,)),
        Part("compiled", (2**16,), (BACKWARD,)),
    ),
    pace=Pace(rounds=21, most_s=0.4, round_s=2e-3, warm_up_s=10e-3),
    budget_s=440,  # with torch's import and the last step it stays below eight minutes
)
REHEARSED = Plan(
    main=tuple(
        part._replace(sizes=(1, 64) if len(part.sizes) > 2 else (64,)) for part in FULL.main
    ),
    others=tuple(part._replace(sizes=(64,)) for part in FULL.others[:-1]),
    pace=Pace(rounds=7, most_s=0.0, round_s=0.0, warm_up_s=0.0),
    budget_s=FULL.budget_s,
)


def steps(plan: Plan, cases: tuple[Case, ...]) -> Iterator[Step]:
    """All steps, in the order they are made."""
    for parts, main in ((plan.main, True), (plan.others, False)):
        for section, sizes, passes in parts:
            for case in cases:
                if (case.name in MAIN) == main and _is_possible(section, case):
                    for size in sizes:
                        yield Step(section, case, size, passes)


def _is_possible(section: str, case: Case) -> bool:
    """Whether PyTorch itself can do with its own loss what the section asks for."""
    needed = {
        "compiled": case.compiles,
        "graph": case.captures,
        "naive": case.safe_function is not None,
        **dict.fromkeys(FORMS, case.name in WEIGHTED),
    }
    return needed.get(section, True)
