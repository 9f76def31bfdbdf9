"""Where the values of a file come from, as far as its text tells without a doubt.

What is not certain (a parameter, a name that is set in a branch, a layer that is chosen by an
option) is not followed: a rule that sees nothing says nothing.
"""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from safeloss._source import table
from safeloss._source.names import Names, Scope
from safeloss._source.table import words

# Methods, and functions of torch, that leave numbers as they are.
VIEWS = words("""
    view reshape flatten squeeze unsqueeze permute transpose t T movedim contiguous clone
    detach float double half bfloat16 long int to cpu cuda type type_as clamp clamp_min
    clamp_max view_as reshape_as expand expand_as requires_grad_
""")
# Layers that leave numbers as they are, and what wraps a module without changing it.
_VIEW_LAYERS = ("torch.nn.Flatten", "torch.nn.Unflatten", "torch.nn.Identity")
_WRAPPERS = ("torch.compile", "torch.nn.DataParallel", "torch.nn.parallel.DistributedDataParallel")
_CONFIGURING = words("""
    to cuda cpu float double half bfloat16 eval train
""")
_DEEPEST = 16  # steps: a mutual recursion of names ends

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Loss(NamedTuple):
    """A call of a loss."""

    name: str  # of the function: "cross_entropy"
    call: ast.Call
    constructor: ast.Call | None  # of the module, if it is one

    def argument(self, index: int) -> ast.expr | None:
        """An input of the loss, by its place among the parameters of the function."""
        return _argument(self.call, table.FUNCTIONS[self.name], index)

    def option(self, name: str) -> ast.expr | None:
        """An option of the loss, wherever it is given; None if it is not."""
        call = self.constructor or self.call
        parameters = table.FUNCTIONS[self.name]
        if self.constructor:
            parameters = next(
                table.CLASSES[one] for one, this in table.FUNCTION_OF.items() if this == self.name
            )
        return _argument(call, parameters, parameters.index(name)) if name in parameters else None

    @property
    def is_plain(self) -> bool:
        """Whether all arguments can be seen: neither `*args` nor `**options`."""
        calls = [self.call, self.constructor] if self.constructor else [self.call]
        return not any(
            isinstance(one, ast.Starred) for call in calls if call for one in call.args
        ) and not any(one.arg is None for call in calls if call for one in call.keywords)


def _argument(call: ast.Call, parameters: tuple[str, ...], index: int) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == parameters[index]:
            return keyword.value
    return call.args[index] if index < len(call.args) else None


class Flow:
    """The values of one file."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.classes: dict[str, ast.ClassDef] = {
            node.name: node for node in names.tree.body if isinstance(node, ast.ClassDef)
        }
        self._attributes: dict[tuple[ast.ClassDef, str], list[ast.expr]] = {}
        for node in names.parents:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                self._remember(node)
        # Every call of a loss, and every place where the options of one are given.
        self.options = [loss for call in names.calls if (loss := self._options(call)) is not None]
        self.losses = [loss for call in names.calls if (loss := self._loss(call)) is not None]

    def _remember(self, node: ast.Attribute) -> None:
        owner = self.class_of(node)
        if owner is None or not isinstance(node.value, ast.Name) or node.value.id != "self":
            return
        value = _assigned(self.names.parents[node], node)
        if not (isinstance(value, ast.Constant) and value.value is None):
            self._attributes.setdefault((owner, node.attr), []).append(value or node)

    # ---- where something stands

    def class_of(self, node: ast.AST) -> ast.ClassDef | None:
        """The class whose method a node stands in."""
        for _, parent in self.names.ancestors(node):
            if isinstance(parent, ast.ClassDef):
                return parent
        return None

    def function(self, node: ast.AST) -> ast.AST:
        """The function that a node stands in, or the module."""
        while node in self.names.parents and not isinstance(node, _FUNCTIONS):
            node = self.names.parents[node]
        return node

    def statement(self, node: ast.AST) -> ast.stmt:
        while not isinstance(node, ast.stmt):
            node = self.names.parents[node]
        return node

    def _blocks(self, node: ast.AST) -> set[int]:
        """The blocks of statements around a node, each by its first statement."""
        found = set()
        for child, parent in self.names.ancestors(node):
            if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                for _, value in ast.iter_fields(parent):
                    if isinstance(value, list) and child in value:
                        found.add(id(value[0]))
            if isinstance(parent, (*_FUNCTIONS, ast.Lambda)):
                break
        return found

    # ---- what a name is

    def value(self, name: ast.Name) -> ast.expr | None:
        """The expression that a name was set to last, where there is no doubt which."""
        scope = self.names.scopes[name].find(name.id)
        if scope is None or name.id in scope.imports:
            return None
        stores = self.names.stores.get((scope, name.id), [])
        if _is_parameter(scope, name.id):
            stores = [ast.Name(name.id, ast.Store(), lineno=0, col_offset=0), *stores]
        if scope is not self.names.scopes[name]:
            return self._set_to(stores[0]) if len(stores) == 1 else None
        mine = self.statement(name)
        before = [one for one in stores if _before(one, mine)]
        if not before or before[-1].lineno == 0:
            return None
        last = before[-1]
        around = self._blocks(name)
        if not self._block_of(self.statement(last)) & around:
            return None
        for _, parent in self.names.ancestors(name):
            if isinstance(parent, (ast.For, ast.While, ast.AsyncFor)):
                inside = {one for one in stores if one is not last and self._is_in(one, parent)}
                if not self._is_in(last, parent) and inside:
                    return None
            if isinstance(parent, _FUNCTIONS):
                break
        return self._set_to(last)

    def _block_of(self, statement: ast.stmt) -> set[int]:
        """The block of a statement, and those around it in which it is sure to run."""
        found = {id(self.names.body_of(statement)[0])}
        while isinstance(outer := self.names.parents[statement], (ast.With, ast.AsyncWith)):
            found.add(id(self.names.body_of(outer)[0]))
            statement = outer
        return found

    def _is_in(self, node: ast.AST, outer: ast.AST) -> bool:
        return any(parent is outer for _, parent in self.names.ancestors(node))

    def _set_to(self, name: ast.Name) -> ast.expr | None:
        return _assigned(self.names.parents[name], name) if name in self.names.parents else None

    def is_parameter(self, node: ast.expr | None) -> bool:
        """Whether an expression is a parameter of the function that it stands in, as it came."""
        if not isinstance(node, ast.Name):
            return False
        scope = self.names.scopes[node]
        stored = (scope, node.id) in self.names.stores
        return _is_parameter(scope, node.id) and not stored

    def attribute(self, node: ast.Attribute) -> ast.expr | None:
        """What `self.x` was set to, if it is set in one place."""
        if not isinstance(node.value, ast.Name) or node.value.id != "self":
            return None
        owner = self.class_of(node)
        values = self._attributes.get((owner, node.attr), []) if owner else []
        if len(values) == 1 and isinstance(values[0], ast.Call):
            return values[0]
        return None

    def constructor(self, node: ast.expr, depth: int = 0) -> ast.Call | None:
        """The call that made a module, through names, attributes, `.to(...)` and wrappers."""
        if depth > _DEEPEST:
            return None
        if isinstance(node, ast.Name):
            value = self.value(node)
            return self.constructor(value, depth + 1) if value is not None else None
        if isinstance(node, ast.Attribute):
            value = self.attribute(node)
            return self.constructor(value, depth + 1) if value is not None else None
        if not isinstance(node, ast.Call):
            return None
        path = self.names.path(node.func)
        if path in _WRAPPERS and node.args:
            return self.constructor(node.args[0], depth + 1)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if path is None and method in _CONFIGURING and isinstance(node.func, ast.Attribute):
            return self.constructor(node.func.value, depth + 1)
        return node

    # ---- what a call is

    def _options(self, call: ast.Call) -> Loss | None:
        """The loss that a call computes or constructs."""
        path = self.names.path(call.func)
        name = table.either(path) if path is not None else None
        if path is None or name not in table.FUNCTIONS:
            return None
        is_function = path.rpartition(".")[2] in (*table.FUNCTIONS, _MULTI_LABEL)
        return Loss(name, call, None if is_function else call)

    def _loss(self, call: ast.Call) -> Loss | None:
        """The loss that a call computes, with the constructor of its module if it has one."""
        made = self._options(call)
        if made is not None:
            return made if made.constructor is None else None
        constructor = self.constructor(call.func)
        if constructor is None or constructor is call:
            return None
        made = self._options(constructor)
        return made._replace(call=call) if made is not None and made.constructor else None

    def layer(self, call: ast.Call) -> tuple[str, ast.Call] | None:
        """The path and the constructor of the layer that a call constructs or applies."""
        path = self.names.path(call.func)
        if path is not None:
            return path, call
        made = self.constructor(call.func)
        path = self.names.path(made.func) if made is not None and made is not call else None
        return (path, made) if path is not None and made is not None else None

    def trace(self, node: ast.expr | None, depth: int = 0) -> Iterator[ast.expr]:
        """The expressions that a value comes out of unchanged, the last one first."""
        if node is None or depth > _DEEPEST:
            return
        yield node
        yield from self.trace(self._before(node), depth + 1)

    def _before(self, node: ast.expr) -> ast.expr | None:
        """The expression whose numbers this one has too."""
        if isinstance(node, ast.Name):
            return self.value(node)
        if isinstance(node, ast.Subscript):
            return node.value
        if not isinstance(node, ast.Call):
            return None
        path = self.names.path(node.func)
        if path is not None:
            is_view = path.startswith("torch.") and path.removeprefix("torch.") in VIEWS
            if path in _VIEW_LAYERS:
                return self._layer_before(node)
            return node.args[0] if is_view and node.args else None
        if isinstance(node.func, ast.Attribute):
            method = self._method(node.func)
            if method is not None:
                return _returned(method)
            if node.func.attr in VIEWS:
                return node.func.value
        if isinstance(node.func, ast.Name) and node.func.id == "self":
            return self._forward(self.class_of(node))
        made = self.constructor(node.func)
        if made is None or made is node:
            return None
        if self.names.path(made.func) == "torch.nn.Sequential":
            return _last_layer(made)
        if isinstance(made.func, ast.Name):
            return self._forward(self.classes.get(made.func.id))
        return None

    def _method(self, func: ast.Attribute) -> ast.FunctionDef | None:
        owner = self.class_of(func)
        if owner is None or not isinstance(func.value, ast.Name) or func.value.id != "self":
            return None
        return _method_of(owner, func.attr)

    def _forward(self, owner: ast.ClassDef | None) -> ast.expr | None:
        forward = _method_of(owner, "forward") if owner else None
        return _returned(forward) if forward else None

    def _layer_before(self, layer: ast.Call) -> ast.expr | None:
        """The layer in front of one in the same `nn.Sequential`."""
        parent = self.names.parents[layer]
        if not isinstance(parent, ast.Call) or layer not in parent.args:
            return None
        place = parent.args.index(layer)
        return parent.args[place - 1] if place else None


_MULTI_LABEL = "multilabel_binary_cross_entropy"


def _is_parameter(scope: Scope, name: str) -> bool:
    arguments = getattr(scope.node, "args", None)
    if not isinstance(arguments, ast.arguments):
        return False
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [one for one in (arguments.vararg, arguments.kwarg) if one]
    return any(one.arg == name for one in every)


def _before(store: ast.Name, statement: ast.stmt) -> bool:
    return (store.lineno, store.col_offset) < (statement.lineno, statement.col_offset)


def _assigned(statement: ast.AST, target: ast.expr) -> ast.expr | None:
    """What a plain assignment sets a target to."""
    if isinstance(statement, ast.Assign) and target in statement.targets:
        return statement.value
    if isinstance(statement, ast.AnnAssign):
        return statement.value
    return None


def _method_of(owner: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    for node in owner.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return None


def _returned(function: ast.FunctionDef) -> ast.expr | None:
    """What a function returns, if it does in one place."""
    found = []
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return):
            found.append(node.value)
        elif not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return found[0] if len(found) == 1 else None


def _last_layer(sequential: ast.Call) -> ast.expr | None:
    if not sequential.args:
        return None
    last = sequential.args[-1]
    if isinstance(last, ast.Call) and len(sequential.args) == 1 and last.args:
        items = last.args[0]  # OrderedDict([("name", layer), ...])
        if isinstance(items, ast.List) and items.elts and isinstance(items.elts[-1], ast.Tuple):
            return items.elts[-1].elts[-1]
    return last if isinstance(last, ast.Call) else None
