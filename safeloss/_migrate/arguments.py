"""`size_average` and `reduce`, which PyTorch has given up, become `reduction`."""

import ast
from collections.abc import Sequence

import libcst as cst

LEGACY = ("size_average", "reduce")


def legacy(call: ast.Call, parameters: Sequence[str]) -> dict[str, ast.expr]:
    """The legacy arguments of a call, by name."""
    positional = dict(zip(parameters, call.args))
    named = {one.arg: one.value for one in call.keywords if one.arg is not None}
    return {name: value for name, value in (positional | named).items() if name in LEGACY}


def is_certain(call: ast.Call, given: dict[str, ast.expr]) -> bool:
    """Whether all is known that decides the reduction."""
    starred = any(isinstance(one, ast.Starred) for one in call.args)
    packed = any(one.arg is None for one in call.keywords)
    constants = all(
        isinstance(value, ast.Constant) and value.value in (True, False, None)
        for value in given.values()
    )
    return constants and not starred and not packed


def reduction(size_average: bool | None, reduce: bool | None) -> str | None:
    """What PyTorch reads the legacy arguments as: they win over `reduction`.

    >>> reduction(None, None), reduction(False, None), reduction(True, False)
    (None, 'sum', 'none')
    """
    if size_average is None and reduce is None:
        return None
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def modern(text: str, parameters: Sequence[str]) -> str | None:
    """The source of a call without legacy arguments; None if it cannot be written so.

    >>> modern("f(x, y, None, False)", ["input", "target", "weight", "size_average"])
    'f(x, y, None, reduction="sum")'
    """
    try:
        call = cst.parse_expression(text)
    except cst.ParserSyntaxError:
        return None
    module = cst.Module([])
    if not isinstance(call, cst.Call) or module.code_for_node(call) != text:
        return None
    values: dict[str, bool | None] = {}
    named = []
    for index, argument in enumerate(call.args):
        name = argument.keyword.value if argument.keyword else parameters[index]
        named.append((name, argument))
        if name in LEGACY:
            values[name] = {"True": True, "False": False, "None": None}[
                cst.ensure_type(argument.value, cst.Name).value
            ]
    wanted = reduction(values.get("size_average"), values.get("reduce"))
    kept: list[cst.Arg] = []
    after = False  # a legacy argument: what follows it by position is named
    for name, argument in named:
        if name in LEGACY:
            if wanted not in (None, "mean"):
                kept.append(_keyword(argument, "reduction", cst.SimpleString(f'"{wanted}"')))
                wanted = "mean"  # which is the default, and written once
            after = True
        elif (
            name != "reduction"
            or reduction(**{"size_average": None, "reduce": None} | values) is None
        ):
            if after and argument.keyword is None:
                argument = _keyword(argument, name, argument.value)
            kept.append(argument)
    if kept:
        last = call.args[-1]
        kept[-1] = kept[-1].with_changes(
            comma=last.comma, whitespace_after_arg=last.whitespace_after_arg
        )
    return module.code_for_node(call.with_changes(args=kept))


def _keyword(argument: cst.Arg, name: str, value: cst.BaseExpression) -> cst.Arg:
    nothing = cst.SimpleWhitespace("")
    return argument.with_changes(
        keyword=cst.Name(name),
        value=value,
        equal=cst.AssignEqual(whitespace_before=nothing, whitespace_after=nothing),
    )
