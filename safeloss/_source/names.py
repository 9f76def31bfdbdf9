"""What the names in a file mean, by its imports alone: Python's scopes, and nothing is run."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

# What a scope may be: these look names up in the scopes around them.
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_NOTHING = (ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Import(NamedTuple):
    """One name that an import statement binds."""

    name: str
    path: str  # what the name stands for: "torch.nn.functional"
    alias: ast.alias
    statement: ast.Import | ast.ImportFrom
    body: list[ast.stmt]  # the block that the statement stands in


class Scope:
    """The names of a module, a class, a function or a comprehension."""

    def __init__(self, node: ast.AST, outer: "Scope | None") -> None:
        self.node = node
        self.outer = outer
        self.imports: dict[str, list[Import]] = {}
        self.others: set[str] = set()  # names that something else than an import binds
        self.outside: set[str] = set()  # names that `global` and `nonlocal` send elsewhere
        self.stars: list[Import] = []

    def find(self, name: str) -> "Scope | None":
        """The scope that binds a name as it is read in this one, or the module if none does."""
        scope, first = self, True
        while True:
            class_between = isinstance(scope.node, ast.ClassDef) and not first
            if not class_between and name not in scope.outside:
                if name in scope.imports or name in scope.others:
                    return scope
                if scope.stars:
                    return scope
            if scope.outer is None:
                return None
            scope, first = scope.outer, False


class Names:
    """The scopes and parents of a tree, and the paths of what is read in it."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.module = Scope(tree, None)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scopes: dict[ast.AST, Scope] = {}  # of every name that is read, and of every scope
        self.reads: list[ast.Name] = []
        self.calls: list[ast.Call] = []
        self.strings: list[ast.Constant] = []
        self.stores: dict[tuple[Scope, str], list[ast.Name]] = {}
        self._visit(tree, self.module)

    def _visit(self, tree: ast.Module, scope: Scope) -> None:
        # A stack of our own: code may nest deeper than Python's.
        todo: list[tuple[ast.AST, Scope]] = [(tree, scope)]
        while todo:
            node, scope = todo.pop()
            inside = self._enter(node, scope)
            outside = set(_evaluated_outside(node)) if inside is not scope else ()
            children: list[tuple[ast.AST, Scope]] = []
            for field in node._fields:
                value = getattr(node, field, None)
                for child in value if isinstance(value, list) else (value,):
                    if isinstance(child, ast.AST) and not isinstance(child, _NOTHING):
                        self.parents[child] = node
                        children.append((child, scope if child in outside else inside))
            children.reverse()
            todo += children
        for scope in self.scopes.values():
            self.module.others |= scope.others & scope.outside

    def _enter(self, node: ast.AST, scope: Scope) -> Scope:
        """Record what a node binds; the scope of what is in it."""
        if isinstance(node, ast.Name):
            self.scopes[node] = scope
            if isinstance(node.ctx, ast.Load):
                self.reads.append(node)
            else:
                self.stores.setdefault((scope, node.id), []).append(node)
                if not self._is_fallback(node):
                    scope.others.add(node.id)
        elif isinstance(node, ast.Call):
            self.scopes[node] = scope
            self.calls.append(node)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.strings.append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._bind(node, scope)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            scope.outside.update(node.names)
        elif (isinstance(node, ast.ExceptHandler) and node.name) or (
            isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name
        ):
            scope.others.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            scope.others.add(node.rest)
        elif isinstance(node, ast.arg):
            scope.others.add(node.arg)
        elif isinstance(node, (ast.ClassDef, *_FUNCTIONS, *_COMPREHENSIONS)):
            if not isinstance(node, (ast.Lambda, *_COMPREHENSIONS)):
                scope.others.add(node.name)
            inner = self.scopes[node] = Scope(node, scope)
            return inner
        return scope

    def _is_fallback(self, node: ast.Name) -> bool:
        """Whether a name is set to None where its import failed."""
        statement = self.parents[node]
        return (
            isinstance(statement, ast.Assign)
            and isinstance(statement.value, ast.Constant)
            and statement.value.value is None
            and isinstance(self.parents[statement], ast.ExceptHandler)
        )

    def _bind(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        body = self.body_of(node)
        for alias in node.names:
            if isinstance(node, ast.Import):
                top = alias.name.partition(".")[0]
                name, path = (alias.asname, alias.name) if alias.asname else (top, top)
            else:
                name = alias.asname or alias.name
                path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
            bound = Import(name, path, alias, node, body)
            if alias.name == "*":
                scope.stars.append(bound)
            else:
                scope.imports.setdefault(name, []).append(bound)

    def body_of(self, statement: ast.stmt) -> list[ast.stmt]:
        """The block that a statement stands in."""
        for _, value in ast.iter_fields(self.parents[statement]):
            if isinstance(value, list) and statement in value:
                return value
        raise AssertionError("a statement stands in a block")

    def chains(self) -> Iterator[tuple[ast.Name | ast.Attribute, str, list[Import]]]:
        """Every whole dotted expression that begins with an imported name, and its path."""
        for name in self.reads:
            bound = self.imports_of(name)
            if not bound:
                continue
            node: ast.Name | ast.Attribute = name
            path = bound[0].path
            while isinstance(parent := self.parents[node], ast.Attribute):
                node = parent
                path += f".{node.attr}"
            yield node, path, bound

    def imports_of(self, name: ast.Name) -> list[Import]:
        """The imports that bind a name where it is read, if nothing else does, and all agree."""
        scope = self.scopes[name].find(name.id)
        if scope is None or name.id in scope.others:
            return []
        bound = scope.imports.get(name.id)
        if bound is None:
            star = scope.stars[0]
            path = star.path.removesuffix("*") + name.id
            return [star._replace(name=name.id, path=path)] if len(scope.stars) == 1 else []
        return bound if len({one.path for one in bound}) == 1 else []

    def path(self, node: ast.AST) -> str | None:
        """The dotted path that an expression stands for by imports; None if by none."""
        attributes = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node not in self.scopes:
            return None
        bound = self.imports_of(node)
        return ".".join([bound[0].path, *reversed(attributes)]) if bound else None

    def ancestors(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """The pairs of child and parent from a node up to the module."""
        while node in self.parents:
            yield node, self.parents[node]
            node = self.parents[node]


def _evaluated_outside(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a scope's node that are evaluated in the scope around it."""
    if isinstance(node, ast.ClassDef):
        yield from [*node.bases, *node.keywords, *node.decorator_list]
    elif isinstance(node, _COMPREHENSIONS):
        yield node.generators[0].iter
    elif isinstance(node, _FUNCTIONS):
        # Defaults hang below `ast.arguments`, which holds the parameters too: a name that is both
        # is so rare that it may count as the parameter.
        yield from getattr(node, "decorator_list", ())
