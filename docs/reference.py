"""Renders `losses.md` from the signatures of the losses."""

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from safeloss import functional
from safeloss._contract.model import Input
from safeloss._contract.options import OURS
from safeloss._contract.patterns import Pattern, Reads
from safeloss._contract.values import Rule
from safeloss._hazards import LOSSES
from safeloss._hazards.cases import taken
from safeloss._hazards.outcomes import native_of
from safeloss._messages.explain import declared_text


def losses() -> str:
    """A table by family, and a section for each loss."""
    families: dict[str, list[Any]] = {}
    for safe in _by_family():
        families.setdefault(safe.__module__, []).append(safe)
    lines = ["| loss | is a | function | inputs |", "|---|---|---|---|"]
    for module, members in families.items():
        lines.append(f"| **{_family(module)}** | | | |")
        lines += [_line(safe) for safe in members]
    sections = [section(safe) for members in families.values() for safe in members]
    return "\n\n".join(["\n".join(lines), *sections])


def unreduced() -> str:
    """The table of unreduced losses: their shape, what the mean counts, what fills the targets."""
    lines = ["| loss | unreduced loss | `d` | under the mask |", "|---|---|---|---|"]
    for safe in _by_family():
        signature = safe.forward.signature
        if not signature.unweighted:
            shapes = " or ".join(f"`{pattern.text}`" for pattern in signature.unreduced)
            counted = [_sentence(of[0]) for of in signature.counting if of is not None]
            fills = ", ".join(
                f"`{entry.name}` {_fill(entry, signature.names)}"
                for entry in taken(signature)
                if entry.patterns[0].fill is not None
            )
            lines.append(f"| `{safe.__name__}` | {shapes} | {' '.join(counted) or 1} | {fills} |")
    return "\n".join(lines)


def unweighted() -> str:
    """The table of losses that take neither weights nor a mask."""
    lines = ["| loss | why |", "|---|---|"]
    for safe in _by_family():
        if safe.forward.signature.unweighted:
            lines.append(f"| `{safe.__name__}` | {safe.forward.signature.unweighted} |")
    return "\n".join(lines)


def _by_family() -> list[Any]:
    return sorted(LOSSES.values(), key=lambda safe: safe.__module__)


def _sentence(function: Any) -> str:
    return inspect.cleandoc(function.__doc__).partition("\n\n")[0].replace("\n", " ")


def _fill(entry: Input, names: tuple[str, ...]) -> str:
    pattern = entry.patterns[0]
    ignored = pattern.reads == "AS_INDICES" and "ignore_index" in names
    return "`ignore_index`" if ignored else f"{pattern.fill:g}"


def _family(module: str) -> str:
    """What the losses of a module are for, as its docstring says after "Modules"."""
    title = (sys.modules[module].__doc__ or "").partition("\n")[0].rstrip(".")
    return title.partition(" ")[2].capitalize()


def _line(safe: Any) -> str:
    name = safe.__name__
    given = taken(safe.forward.signature)
    inputs = ", ".join(f"`{entry.name} {entry.patterns[0].text}`" for entry in given)
    function = function_of(safe)
    return (
        f"| [`{name}`](#{name.lower()}) | `nn.{native_of(safe).__name__}` | "
        f"{f'`{function}`' if function else 'none'} | {inputs} |"
    )


def function_of(safe: Any) -> str:
    """The name of the same loss in `safeloss.functional`, if there is one."""
    signature = safe.forward.signature
    return next(
        (n for n in functional.__all__ if getattr(functional, n).signature is signature), ""
    )


def section(safe: Any) -> str:
    """A loss: what it does, its layouts, its rules and its options."""
    function, signature = function_of(safe), safe.forward.signature
    described = getattr(functional, function) if function else safe
    sentence = inspect.cleandoc(described.__doc__).partition("\n\n")[0].replace("\n", " ")
    parameters = inspect.signature(safe).parameters
    rows = "\n".join(
        f"| `{entry.name}`{' (optional)' if entry.weight else ''} "
        f"| {marked(declared_text(entry.patterns))} | {numbers_of(entry.patterns) or 'any'} |"
        for entry in signature.reader.inputs
        if entry in taken(signature) or entry.name in parameters
    )
    options = [
        f"`{name}={parameter.default!r}`{_others(parameter.default, signature.choices(name))}"
        for name, parameter in parameters.items()
        if name in OURS and parameter.default is not parameter.empty
    ]
    called = f"; as a function, `safeloss.functional.{function}`" if function else ""
    return (
        f"## {safe.__name__}\n\n{sentence}\n\n"
        f"A subclass of `nn.{native_of(safe).__name__}`{called}.\n\n"
        f"| input | layouts | its numbers |\n|---|---|---|\n{rows}\n\n"
        f"Options of ours: {'; '.join(options)}.\n\n{_at_call(signature)}"
    )


def _at_call(signature: Any) -> str:
    """What may be given with each call."""
    if signature.unweighted:
        return f"It takes no weights and no mask: {signature.unweighted}."
    shapes = " or ".join(f"`{pattern.text}`" for pattern in signature.unreduced)
    return (
        f"With a call: `sample_weight` and `mask`, of {shapes} or its first axes, and "
        "`denominator` ([weights, masks and counts](weights.md))."
    )


def marked(layouts: str) -> str:
    """Layouts with their axes as code."""
    return re.sub(r"\[.*?\]", r"`\g<0>`", layouts)


def numbers_of(patterns: Sequence[Pattern]) -> str:
    """The rules of all layouts, what is only warned of, and how the tensor is read."""
    rules = dict.fromkeys(rule for pattern in patterns for rule in pattern.rules)
    said = [
        f"{rule}"
        if str(rule).startswith("must ")
        else f"{'refused' if isinstance(rule, Rule) else 'warns'} if it {rule}"
        for rule in rules
    ]
    reads = dict.fromkeys(Reads[p.reads].value for p in patterns if p.reads)
    if any(pattern.broadcast for pattern in patterns):
        reads[Reads.BROADCAST.value] = None
    return "; ".join([*said, *reads])


def _others(default: Any, known: Iterable[Any]) -> str:
    """The choices besides the default."""
    others = [f"`{choice!r}`" for choice in known if choice != default]
    return f", or {', '.join(others)}" if others else ""
