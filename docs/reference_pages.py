"""The pages of reference on the site: each loss, each layout, and everything else that is public.

Signatures come from the source (mkdocstrings); layouts, rules and options from what checks a call.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import reference
import torch
from formulas import FORMULAS

import safeloss
from safeloss import errors, functional, layouts
from safeloss._hazards import LOSSES
from safeloss._hazards.outcomes import native_of
from safeloss._messages.explain import declared_text

_TORCH = "https://docs.pytorch.org/docs/stable/generated/torch.nn."


def _losses() -> list[Any]:
    return sorted(LOSSES.values(), key=lambda safe: safe.__name__)


def nav() -> list[Any]:
    """The section of the navigation."""
    losses = [f"reference/{safe.__name__}.md" for safe in _losses()]
    pages = [
        f"reference/{name}.md" for name in ("index", "functional", "layouts", "tools", "errors")
    ]
    return [*pages, {"Layouts of all losses": "losses.md"}, {"Losses": losses}]


def pages() -> Iterator[tuple[str, str]]:
    """The paths in the docs, and what stands there."""
    yield "reference/index.md", index()
    yield "reference/functional.md", functions()
    yield "reference/layouts.md", layout_table()
    yield "reference/tools.md", tools()
    yield "reference/errors.md", exceptions()
    for safe in _losses():
        yield f"reference/{safe.__name__}.md", loss_page(safe)


def place(name: str) -> str:
    """The page and the anchor of a public name, from the pages of reference."""
    value = getattr(safeloss, name)
    if name in LOSSES or inspect.ismodule(value):
        return f"{name}.md"
    if isinstance(value, type) and issubclass(value, (Exception, Warning)):
        return f"errors.md#safeloss.{name}"
    return f"tools.md#safeloss.{name}"


def _tools() -> list[str]:
    """The public names that are neither losses, modules nor errors."""
    return [
        name
        for name in safeloss.__all__
        if name != "__version__" and place(name).startswith("tools.md")
    ]


def _sentence(value: Any) -> str:
    paragraph = (inspect.getdoc(value) or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


_CONSTANTS = {
    "SAFE": "The safe class of each class of `torch.nn`, as a dictionary.",
    "SafeCrossEntropy": "Another name of `SafeCrossEntropyLoss`.",
}


def index() -> str:
    """All public names, a sentence each."""
    lines = ["# Reference", "", "Everything that `import safeloss` gives.", ""]
    lines += ["| name | what it is |", "|---|---|"]
    for name in safeloss.__all__:
        if name != "__version__":
            sentence = _CONSTANTS.get(name) or _sentence(getattr(safeloss, name))
            lines.append(f"| [`{name}`]({place(name)}) | {sentence.replace('|', '&#124;')} |")
    return "\n".join([*lines, ""])


def functions() -> str:
    """The functions, each with its signature."""
    lines = [
        "# Functions",
        "",
        "`safeloss.functional` has each loss as a function, with the names of",
        "`torch.nn.functional`. The names in the signatures are [layouts](layouts.md).",
        "",
    ]
    lines += [f"::: safeloss.functional.{name}\n" for name in sorted(functional.__all__)]
    return "\n".join(lines)


def layout_table() -> str:
    """Each layout: axes, dtypes and rules on numbers."""
    lines = [
        "# Layouts",
        "",
        "A layout says which axes a tensor has, which dtypes, and what its numbers are. `batch`",
        "counts samples, `classes` the classes, `*space` is whatever lies between (time, height",
        "and width), `*shape` any axes at all, and `_` any size. Use layouts for the heads of",
        "models, too: see [typed heads](../how-to/typed-heads.md).",
        "",
    ]
    for name in layout_names():
        lines += [f"## {name} {{ #safeloss.layouts.{name} }}", "", layout(name), ""]
    return "\n".join(lines)


def layout_names() -> list[str]:
    """The layouts of `safeloss.layouts`, in its order."""
    tree = ast.parse(inspect.getsource(layouts))
    found = [node.target for node in tree.body if isinstance(node, ast.AnnAssign)]
    return [target.id for target in found if isinstance(target, ast.Name) and target.id[0] != "_"]


def layout(name: str) -> str:
    """The dtypes and axes of a layout, and the rules on its numbers."""
    from safeloss._contract.patterns import parse

    patterns = parse(getattr(layouts, name))
    rules = reference.numbers_of(patterns)
    return reference.marked(declared_text(patterns)) + (
        f"\n\nIts numbers: {rules}." if rules else ""
    )


def tools() -> str:
    """Everything else, by name."""
    lines = [
        "# Tools",
        "",
        "What is not a loss. [Diagnose](../diagnose.md) shows them at work.",
        "",
    ]
    for name in _tools():
        if name in _CONSTANTS:
            lines += [f"## {name} {{ #safeloss.{name} }}", "", _CONSTANTS[name], ""]
        else:
            members = isinstance(getattr(safeloss, name), type)
            lines += [
                f"::: safeloss.{name}",
                *(["    options: {members: null}"] if members else []),
            ]
            lines += [""]
    return "\n".join(lines)


def exceptions() -> str:
    """The tree of exceptions, and each of them."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip("\n")
    lines = ["# Errors and warnings", "", "```text", tree, "```", ""]
    lines += ["[All codes](../errors/index.md), with what each one means.", ""]
    for name in errors.__all__:
        options = "    options: {members: null}"
        path = f"safeloss.{name}" if name in safeloss.__all__ else f"safeloss.errors.{name}"
        lines += [f"::: {path}", *([options] if name == "SafeLossError" else []), ""]
    return "\n".join(lines)


def loss_page(safe: Any) -> str:
    """The page of one loss."""
    name = safe.__name__
    section = reference.section(safe).partition("\n\n")[2]
    section = re.sub(r"\]\((?=[\w-]+\.md)", "](../", section)  # it is written for `losses.md`
    lines = [f"# {name}", "", section, ""]
    if name in FORMULAS:
        example, formula, source = FORMULAS[name]
        native = native_of(safe).__name__
        lines += ["## Formula and example", ""]
        lines += ["Each number of the unreduced loss, in names of `torch`:", ""]
        lines += [f"```python\n{formula}\n```", ""]
        lines += [f"```python\nimport torch\nimport safeloss\n\n{example}\n```", ""]
        lines += [f"```text {{ .output }}\n{_shown(example)}\n```", ""]
        lines += [f"Source: [`torch.nn.{native}`]({_TORCH}{native}.html)"]
        lines[-1] += f"; {source}." if source else "."
        lines += [""]
    lines += ["## Signature", "", f"::: safeloss.{name}", "    options: {heading_level: 3}", ""]
    function = reference.function_of(safe)
    if function:
        lines += ["The same as a function, with the layouts of its arguments:"]
        lines += [f"[`safeloss.functional.{function}`][safeloss.functional.{function}]", ""]
    return "\n".join(lines)


def run(example: str) -> tuple[Any, dict[str, Any]]:
    """What the last line of an example gives, and the names that it leaves."""
    names: dict[str, Any] = {"torch": torch, "safeloss": safeloss}
    body, _, last = example.rpartition("\n")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(body, names)
        return eval(last, names), names


def _shown(example: str) -> str:
    return repr(run(example)[0].detach())
