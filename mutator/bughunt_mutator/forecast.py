"""Forecasts: what edits would do to a program whose expressions have been seen, without running it.

The statement that is edited is inferred anew, then the statements after it that read what it has changed, as
far as they can be followed.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from bughunt_mutator.edit import Edit, apply, in_order
from bughunt_mutator.equivalence import same
from bughunt_mutator.facts import Fact, Facts, Places, Seen, Span
from bughunt_mutator.inference import Inference
from bughunt_mutator.shapes import MisfitError, expanded

FOLLOWED = 40  # statements after the edited one
MOMENTS = 24  # that are looked at
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


class Outcome(Enum):
    """What edits do, as far as shapes tell."""

    MISFIT = "an operation refuses what it is given"
    SAME = "nothing is computed that was not before"
    FITS = "every shape is as it was, or can be followed until it is"
    OTHER = "a shape changes, and where it goes cannot be followed"
    UNKNOWN = "nothing can be told"


@dataclass(frozen=True)
class Site:
    """A statement with the block and the function that it is in."""

    statement: ast.stmt
    following: Sequence[ast.stmt]
    function: Function
    span: Span


class Forecast:
    """The statements of a text, and what was seen of their expressions."""

    def __init__(self, text: str, facts: Facts, aliases: Mapping[str, str]) -> None:
        self.text, self.facts, self.aliases = text, facts, aliases
        self._scenes: dict[int, Scene] = {}

    @cached_property
    def places(self) -> Places:
        return Places(self.text)

    @cached_property
    def sites(self) -> list[Site]:
        """Every statement, outer ones first."""
        return list(_sites(self.places, self.places.tree, self.places.tree))

    def of(self, edits: Sequence[Edit]) -> Outcome:
        """What the edits do to the one statement that they are in."""
        edits = in_order(edits)
        site = self._site(edits[0].start, edits[-1].end)
        new = self._edited(site, edits) if site is not None else None
        if site is None or new is None:
            return Outcome.UNKNOWN
        old = site.statement
        scene = self._scene(site.function)
        if same(old, new, lambda node: scene.seen(site, node).facts, self.aliases):
            return Outcome.SAME
        outcomes = [self._moment(scene, site, old, new, moment) for moment in scene.moments(site)]
        worst = (Outcome.MISFIT, Outcome.UNKNOWN, Outcome.OTHER, Outcome.FITS)
        return next((outcome for outcome in worst if outcome in outcomes), Outcome.UNKNOWN)

    def _moment(self, scene: Scene, site: Site, old: ast.stmt, new: ast.stmt, moment: int) -> Outcome:
        try:
            return _Walk(scene, site, moment).outcome(old, new)
        except MisfitError:
            return Outcome.MISFIT

    def _site(self, start: int, end: int) -> Site | None:
        """The innermost statement with an expression of its own that holds a stretch of the text."""
        holding = [site for site in self.sites if site.span[0] <= start and end <= site.span[1]]
        return holding[-1] if holding else None

    def _edited(self, site: Site, edits: Sequence[Edit]) -> ast.stmt | None:
        start, end = site.span
        moved = [Edit(edit.start - start, edit.end - start, edit.old, edit.new) for edit in edits]
        tail = "pass" if isinstance(site.statement, HEADED) else ""
        try:
            body = ast.parse(apply(self.text[start:end], moved) + tail).body
        except (SyntaxError, ValueError):
            return None
        if len(body) != 1 or type(body[0]) is not type(site.statement):
            return None
        return body[0]

    def _scene(self, function: Function) -> Scene:
        if id(function) not in self._scenes:
            self._scenes[id(function)] = Scene(self, function)
        return self._scenes[id(function)]


class Scene:
    """What was seen in one function: the facts of its expressions, by their texts."""

    def __init__(self, forecast: Forecast, function: Function) -> None:
        self.aliases = forecast.aliases
        self.sites = {id(site.statement): site for site in forecast.sites}
        self.places = forecast.places
        self.noted: dict[str, list[tuple[int, Seen]]] = {}
        self._lengths: dict[int, int] = {}
        self._moments: dict[int, list[int]] = {}
        self.bound: dict[str, list[int]] = {}  # where the statements end that give a name a value
        self.loaded: dict[str, list[int]] = {}
        for node in _own_nodes(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self.loaded.setdefault(node.id, []).append(self.places.span(node)[0])
            if isinstance(node, ast.expr):
                self._note(ast.unparse(node), self.places.span(node)[0], forecast.facts, node)
            elif isinstance(node, ast.stmt):
                self._bind(node, forecast.facts)
        for noted in self.noted.values():
            noted.sort()

    def _note(self, text: str, at: int, facts: Facts, node: ast.expr) -> None:
        if seen := facts.get(self.places.span(node)):
            self.noted.setdefault(text, []).append((at, seen))

    def _bind(self, node: ast.stmt, facts: Facts) -> None:
        """A name is what was assigned to it, from the end of the statement on."""
        end = self.places.span(node)[1]
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(node, ast.Assign):
                self._note(target.id, end, facts, node.value)
            for name in _names([target] if target is not None else []):
                self.bound.setdefault(name, []).append(end)

    def seen(self, site: Site, node: ast.expr) -> Seen:
        """The facts of an expression: in this statement, else as last seen before or next after it.

        What was seen elsewhere holds as long as no name in it is given another value in between.
        """
        noted = self.noted.get(ast.unparse(node), [])
        start, end = site.span
        inside = [seen for at, seen in noted if start <= at < end]
        before = [(at, start, seen) for at, seen in noted if at <= start]
        after = [(start, at, seen) for at, seen in noted if at >= end]
        if inside:
            return inside[0]
        bound = [end for name in _reads(node) for end in self.bound.get(name, ())]
        for first, last, seen in (*before[-1:], *after[:1]):
            if not any(first < end <= last for end in bound):
                return seen
        return Seen()

    def at(self, site: Site, node: ast.expr, moment: int, times: int) -> Fact | None:
        """The fact of an expression at one of so many times; nothing where times cannot be matched."""
        seen = self.seen(site, node)
        if len(seen.facts) == 1:
            return seen.facts[0]
        return seen.facts[seen.order[moment]] if seen.order and len(seen.order) == times else None

    def moments(self, site: Site) -> list[int]:
        """Times that differ, and whose facts belong together: what is inferred from them was seen."""
        key = id(site.statement)
        if key not in self._moments:
            orders = [seen.order for seen in self._in(site) if len(seen.order) == self.times(site)]
            different = {at: place for place, at in reversed(list(enumerate(zip(*orders, strict=True))))}
            times = sorted(different.values())[:MOMENTS] or [0]
            self._moments[key] = [at for at in times if self._agrees(site, at)]
        return self._moments[key]

    def reads_outside(self, names: set[str], start: int, end: int) -> bool:
        """Whether one of the names is read in the function before one place or after another."""
        loads = (at for name in names for at in self.loaded.get(name, ()))
        return any(not start <= at < end for at in loads)

    def times(self, site: Site) -> int:
        """How often a statement was looked at, as most of its expressions say."""
        key = id(site.statement)
        if key not in self._lengths:
            lengths = Counter(len(seen.order) for seen in self._in(site) if seen.order)
            self._lengths[key] = max(lengths, key=lambda length: (lengths[length], length), default=0)
        return self._lengths[key]

    def _in(self, site: Site) -> list[Seen]:
        return [self.seen(site, node) for node in ast.walk(site.statement) if isinstance(node, ast.expr)]

    def _agrees(self, site: Site, moment: int) -> bool:
        value, times = _value(site.statement), self.times(site)
        for node in ast.walk(value) if value is not None else ():
            if not isinstance(node, ast.expr) or isinstance(node, ast.Name | ast.Constant):
                continue

            def others(each: ast.expr, node: ast.expr = node) -> Fact | None:
                return None if ast.dump(each) == ast.dump(node) else self.at(site, each, moment, times)

            try:
                found = Inference(others, others, self.aliases).of(node)
            except MisfitError:
                return False
            seen = self.at(site, node, moment, times)
            if found and seen and seen.shape is not None and found.shape != seen.shape:
                return False
        return True


class _Walk:
    """One moment of a function, from an edited statement on."""

    def __init__(self, scene: Scene, site: Site, moment: int) -> None:
        self.scene, self.site, self.moment, self.times = scene, site, moment, scene.times(site)
        self.changes: dict[str, Fact | None] = {}

    def outcome(self, old: ast.stmt, new: ast.stmt) -> Outcome:
        found, before = self._computed(new, old), self._before(old)
        if isinstance(new, HEADED):
            return Outcome.FITS if found is not None else Outcome.UNKNOWN
        if found is None or before is None:
            return Outcome.UNKNOWN
        if _shape(found) == _shape(before):
            return Outcome.FITS
        if not isinstance(new, ast.Assign) or not self._note(new.targets, found):
            return Outcome.OTHER
        return self._followed()

    def _followed(self) -> Outcome:
        """What comes of names that are something else, in the statements after the edited one."""
        start, used = self.site.span[0], set[str]()
        changed = set(self.changes)
        for statement in list(_inner(self.site.following))[:FOLLOWED]:
            self.site = self.scene.sites.get(id(statement), self.site)
            if touched := _reads(statement) & set(self.changes):
                used |= touched
                if not self._next(statement):
                    return Outcome.OTHER
                changed |= set(self.changes)
            elif isinstance(statement, ast.Assign):
                for name in _names(statement.targets):
                    self.changes.pop(name, None)
        stays = changed <= used and not self.scene.reads_outside(changed, start, self.site.span[1])
        return Outcome.FITS if stays else Outcome.OTHER

    def _next(self, statement: ast.stmt) -> bool:
        """Note what a statement makes of the changes; whether it can be followed."""
        found, before = self._computed(statement, statement), self._before(statement)
        if isinstance(statement, HEADED):
            return True
        if found is None or before is None:
            return False
        if _shape(found) == _shape(before):
            for name in _names(getattr(statement, "targets", ())):
                self.changes.pop(name, None)
            return True
        return isinstance(statement, ast.Assign) and self._note(statement.targets, found)

    def _before(self, statement: ast.stmt) -> Fact | None:
        """What a statement computed in the run."""
        changes, self.changes = self.changes, {}
        found = self._recorded(_value(statement)) or self._computed(statement, statement)
        self.changes = changes
        return found

    def _note(self, targets: Sequence[ast.expr], found: Fact) -> bool:
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            return False
        self.changes[targets[0].id] = found
        return True

    def _computed(self, new: ast.stmt, old: ast.stmt) -> Fact | None:
        """What a statement computes, given the changes; MisfitError where it cannot."""
        value, original = _value(new), _value(old)
        if value is None or original is None:
            return None
        inference = Inference(self._known, self._recorded, self.scene.aliases, [original])
        found = inference.of(value)
        target = new.targets[0] if isinstance(new, ast.Assign) else getattr(new, "target", None)
        if isinstance(target, ast.Subscript) and found is not None and found.shape is not None:
            slot = inference.of(target)
            if slot is not None and slot.shape is not None:
                expanded(found.shape, slot.shape)
            return slot
        if isinstance(new, ast.AugAssign) and found is not None and found.shape is not None:
            held = inference.of(new.target)
            if held is None or held.shape is None:
                return None
            expanded(found.shape, held.shape)
            return self._recorded(original)
        return found

    def _known(self, node: ast.expr) -> Fact | None:
        if isinstance(node, ast.Name) and node.id in self.changes:
            return self.changes[node.id]
        if self.changes and not _reads(node).isdisjoint(self.changes):
            return None
        return self._recorded(node)

    def _recorded(self, node: ast.expr | None) -> Fact | None:
        return None if node is None else self.scene.at(self.site, node, self.moment, self.times)


BLOCKS = ("body", "orelse", "finalbody")
HEADED = (ast.If, ast.While, ast.For)
SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)


def _sites(places: Places, owner: ast.AST, function: Function) -> Iterator[Site]:
    for name in BLOCKS:
        block = _block(owner, name)
        for place, each in enumerate(block):
            if isinstance(each, SIMPLE):
                yield Site(each, block[place + 1 :], function, places.span(each))
            elif isinstance(each, HEADED) and each.body[0].lineno > each.lineno:
                end = places.at(each.body[0].lineno, each.body[0].col_offset)
                yield Site(each, [*each.body, *block[place + 1 :]], function, (places.span(each)[0], end))
            yield from _sites(places, each, each if isinstance(each, Function) else function)


def _block(owner: ast.AST, name: str) -> list[ast.stmt]:
    found = getattr(owner, name, ())
    return [each for each in found if isinstance(each, ast.stmt)] if isinstance(found, list) else []


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function but not of the functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def _inner(block: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements with those of their blocks, in the order of the text."""
    for statement in block:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        yield statement
        for name in BLOCKS:
            yield from _inner(_block(statement, name))


def _value(statement: ast.stmt) -> ast.expr | None:
    """What a statement computes: the value of a simple one, the test of a compound one."""
    for name in ("value", "test", "iter"):
        found = getattr(statement, name, None)
        if isinstance(found, ast.Yield | ast.Await):
            return found.value
        if isinstance(found, ast.expr):
            return found
    return None


def _shape(fact: Fact) -> object:
    return fact.shape if fact.shape is not None else (fact.kind, fact.value)


def _reads(node: ast.AST) -> set[str]:
    """The names that an expression, or the head of a statement, mentions."""
    heads: list[ast.AST] = [node]
    if isinstance(node, ast.stmt):
        value = _value(node)
        heads = [value] if value is not None else []
        heads += [each for each in (getattr(node, "target", None),) if each is not None]
    return {each.id for head in heads for each in ast.walk(head) if isinstance(each, ast.Name)}


def _names(targets: Sequence[ast.expr]) -> Iterator[str]:
    for target in targets:
        yield from (each.id for each in ast.walk(target) if isinstance(each, ast.Name))
