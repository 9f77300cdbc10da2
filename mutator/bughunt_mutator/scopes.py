"""Scopes: which binding each name of a file refers to, by the rules of the language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst

from bughunt_mutator.aliases import dotted
from bughunt_mutator.source import SourceFile

COMPREHENSIONS = (cst.ListComp, cst.SetComp, cst.GeneratorExp, cst.DictComp)
FUNCTION, CLASS, COMPREHENSION, MODULE = "function", "class", "comprehension", "module"

LAYOUT = frozenset({
    cst.SimpleWhitespace, cst.ParenthesizedWhitespace, cst.TrailingWhitespace, cst.EmptyLine, cst.Newline,
    cst.Comment, cst.Comma, cst.Dot, cst.AssignEqual, cst.Semicolon, cst.Colon, cst.LeftParen, cst.RightParen,
    cst.LeftSquareBracket, cst.RightSquareBracket, cst.Integer, cst.Float, cst.SimpleString,
})  # fmt: skip
SPECIAL = frozenset({
    cst.Attribute, cst.Arg, cst.FunctionDef, cst.Lambda, cst.ClassDef, cst.ListComp, cst.SetComp,
    cst.GeneratorExp, cst.DictComp, cst.Import, cst.ImportFrom, cst.Global, cst.Nonlocal,
    cst.MatchKeywordElement,
})  # fmt: skip
BINDING = frozenset({
    cst.AssignTarget, cst.AnnAssign, cst.AugAssign, cst.For, cst.CompFor, cst.Del, cst.NamedExpr, cst.AsName,
    cst.MatchAs, cst.MatchStar, cst.MatchMapping, cst.TypeVar, cst.TypeVarTuple, cst.ParamSpec, cst.TypeAlias,
})  # fmt: skip


@dataclass(eq=False)
class Scope:
    """A stretch of code with names of its own, and how each of them is bound there."""

    kind: str
    path: str
    parent: Scope | None = None
    ways: dict[str, set[str]] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)

    def bind(self, name: str, way: str) -> None:
        """Note one way in which a name is bound here: assigned, def, class, import, ..."""
        self.ways.setdefault(name, set()).add(way)

    def ancestors(self) -> Iterator[Scope]:
        """The scopes around this one, innermost first."""
        at = self.parent
        while at is not None:
            yield at
            at = at.parent

    def owner(self, name: str) -> Scope | None:
        """The scope that a name belongs to when it is used here; nothing for a builtin."""
        declared = self.declared.get(name)
        if declared == "global":
            return next(scope for scope in (self, *self.ancestors()) if scope.parent is None)
        if name in self.ways and declared is None:
            return self
        for scope in self.ancestors():
            if scope.kind != CLASS and name in scope.ways and name not in scope.declared:
                return scope
        return None


class Names:
    """Every use of a plain name in a module, with the scope it is used in."""

    def __init__(self, file: SourceFile) -> None:
        self.root = Scope(MODULE, "")
        self.scopes = [self.root]
        self.uses: list[tuple[cst.Name, Scope]] = []
        self._children: dict[cst.CSTNode, list[cst.CSTNode]] = {}
        for node in file.order:
            if type(node) not in LAYOUT and node is not file.module:
                self._children.setdefault(file.parent[node], []).append(node)
        self._walk(file.module, self.root)

    def bindings(self) -> dict[tuple[Scope, str], list[cst.Name]]:
        """The places where each bound name stands."""
        found: dict[tuple[Scope, str], list[cst.Name]] = {}
        for node, scope in self.uses:
            owner = scope.owner(node.value)
            if owner is not None:
                found.setdefault((owner, node.value), []).append(node)
        return found

    def builtins(self) -> set[str]:
        """The names that are bound nowhere in the file."""
        return {node.value for node, scope in self.uses if scope.owner(node.value) is None}

    def _walk(self, node: cst.CSTNode, scope: Scope) -> None:
        kind = type(node)
        if kind is cst.Name:
            self.uses.append((node, scope))  # type: ignore[arg-type]
        elif kind in SPECIAL:
            self._walk_special(node, scope)
        else:
            if kind in BINDING:
                self._bind(node, scope)
            for child in self._children.get(node, ()):
                self._walk(child, scope)

    def _walk_special(self, node: cst.CSTNode, scope: Scope) -> None:
        match node:
            case cst.Attribute() | cst.Arg():
                self._walk(node.value, scope)
            case cst.FunctionDef() | cst.Lambda():
                self._function(node, scope)
            case cst.ClassDef():
                self._class(node, scope)
            case cst.ListComp() | cst.SetComp() | cst.GeneratorExp() | cst.DictComp():
                self._comprehension(node, scope)
            case cst.Import() | cst.ImportFrom():
                self._import(node, scope)
            case cst.Global() | cst.Nonlocal():
                for item in node.names:
                    kind = "global" if isinstance(node, cst.Global) else "nonlocal"
                    scope.declared[item.name.value] = kind
                    self.uses.append((item.name, scope))
            case cst.MatchKeywordElement():
                self._walk(node.pattern, scope)

    def _bind(self, node: cst.CSTNode, scope: Scope) -> None:
        match node:
            case cst.AssignTarget() | cst.AnnAssign() | cst.AugAssign() | cst.For():
                self._assign(node.target, scope)
            case cst.CompFor() | cst.Del():
                self._assign(node.target, scope)
            case cst.NamedExpr():
                while scope.kind == COMPREHENSION and scope.parent is not None:
                    scope = scope.parent
                self._assign(node.target, scope)
            case cst.AsName():
                self._assign(node.name, scope)
            case cst.MatchAs() | cst.MatchStar():
                self._other(node.name, scope)
            case cst.MatchMapping():
                self._other(node.rest, scope)
            case cst.TypeVar() | cst.TypeVarTuple() | cst.ParamSpec() | cst.TypeAlias():
                self._other(node.name, scope)

    def _assign(self, target: cst.CSTNode, scope: Scope) -> None:
        match target:
            case cst.Name():
                self._owned(target.value, scope).bind(target.value, "assigned")
            case cst.Tuple() | cst.List():
                for element in target.elements:
                    self._assign(element.value, scope)

    def _owned(self, name: str, scope: Scope) -> Scope:
        """Where an assignment binds: here, or at the top if the name is declared global."""
        return self.root if scope.declared.get(name) == "global" else scope

    def _other(self, name: cst.Name | None, scope: Scope) -> None:
        if name is not None:
            scope.bind(name.value, "other")

    def _function(self, node: cst.FunctionDef | cst.Lambda, scope: Scope) -> None:
        name = node.name.value if isinstance(node, cst.FunctionDef) else "<lambda>"
        inner = self._open(FUNCTION, name, scope)
        if isinstance(node, cst.FunctionDef):
            self._owned(name, scope).bind(name, "def")
            self.uses.append((node.name, scope))
            for above in (*node.decorators, node.returns, node.type_parameters):
                if above is not None:
                    self._walk(above, scope)
        for param in _parameters(node.params):
            inner.bind(param.name.value, "parameter")
            self.uses.append((param.name, inner))
            for part in (param.default, param.annotation):
                if part is not None:
                    self._walk(part, scope)
        self._walk(node.body, inner)

    def _class(self, node: cst.ClassDef, scope: Scope) -> None:
        self._owned(node.name.value, scope).bind(node.name.value, "class")
        self.uses.append((node.name, scope))
        for part in (*node.decorators, *node.bases, *node.keywords, node.type_parameters):
            if part is not None:
                self._walk(part, scope)
        self._walk(node.body, self._open(CLASS, node.name.value, scope))

    def _comprehension(self, node: cst.BaseSimpleComp | cst.DictComp, scope: Scope) -> None:
        inner = self._open(COMPREHENSION, "<comprehension>", scope)
        clause: cst.CompFor | None = node.for_in
        around = scope
        while clause is not None:
            self._walk(clause.iter, around)
            self._assign(clause.target, inner)
            self._walk(clause.target, inner)
            for test in clause.ifs:
                self._walk(test, inner)
            clause, around = clause.inner_for_in, inner
        parts = (node.key, node.value) if isinstance(node, cst.DictComp) else (node.elt,)
        for part in parts:
            self._walk(part, inner)

    def _import(self, node: cst.Import | cst.ImportFrom, scope: Scope) -> None:
        if isinstance(node.names, cst.ImportStar):
            return
        for alias in node.names:
            bound = alias.asname.name if alias.asname else alias.name
            scope.bind(dotted(bound).split(".")[0], "import")

    def _open(self, kind: str, name: str, scope: Scope) -> Scope:
        path = f"{scope.path}.{name}" if scope.path else name
        self.scopes.append(Scope(kind, path, scope))
        return self.scopes[-1]


def _parameters(params: cst.Parameters) -> Iterator[cst.Param]:
    yield from (*params.posonly_params, *params.params, *params.kwonly_params)
    for star in (params.star_arg, params.star_kwarg):
        if isinstance(star, cst.Param):
            yield star
