"""The engine: every mutant of a text, each with a key that outlives changes around it."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import libcst as cst

from bughunt_mutator import registry
from bughunt_mutator.edit import Edit, in_order
from bughunt_mutator.edit import apply as splice
from bughunt_mutator.facts import NOTHING, Facts
from bughunt_mutator.forecast import Outcome
from bughunt_mutator.operator import Operator, OperatorError, Proposal, Value
from bughunt_mutator.refusals import line_of
from bughunt_mutator.source import SourceFile
from bughunt_mutator.trees import Trees

KEY_BYTES = 6
COMMENTS = re.compile(r"(?:[ \t\f]*(?:#[^\n]*)?\n)*")


@dataclass(frozen=True)
class Mutant:
    """One mistake at one site: the edits that write it, and what it is."""

    key: str
    operator: str
    row: str
    line: int
    scope: str
    edits: tuple[Edit, ...]
    params: tuple[tuple[str, Value], ...] = ()
    path: str = ""  # the file it is in, where the program has several

    def apply(self, text: str) -> str:
        """The text with the mistake in it."""
        return splice(text, self.edits)

    @property
    def function(self) -> str:
        """The function the site is in, for hints."""
        return "the module" if self.scope == "<module>" else self.scope.rpartition(".")[2]


@dataclass(frozen=True)
class Found:
    """A proposal with the place it was found at."""

    operator: Operator
    scope: str
    row: str
    edits: tuple[Edit, ...]
    proposal: Proposal

    @property
    def rank(self) -> tuple[object, ...]:
        """Mutants are listed by place, then operator, then what is written."""
        written = [(edit.start, edit.end, len(edit.new), edit.new) for edit in self.edits]
        return self.edits[0].start, self.operator.id, written


def enumerate_mutants(text: str, only: Iterable[str] | None = None, facts: Facts = NOTHING) -> list[Mutant]:
    """Every mutant of a text: all parse, all differ from it and from one another.

    With facts there are those that need them too, and none that the facts show to stop or to change nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the parser thinks of other people's literals
        return _enumerated(SourceFile(text, facts), only)


def _enumerated(file: SourceFile, only: Iterable[str] | None) -> list[Mutant]:
    trees = Trees(file)
    seen: Counter[tuple[str, ...]] = Counter()
    mutants = []
    for found in sorted(_different(file, trees, only), key=lambda found: found.rank):
        identity = _identity(file, found)
        mutants.append(_mutant(file, found, identity, seen[identity]))
        seen[identity] += 1
    return mutants


def _different(file: SourceFile, trees: Trees, only: Iterable[str] | None) -> Iterator[Found]:
    """Proposals that differ in what they mean; of two that do not, the one that the catalogue knows."""
    for found in sorted(find(file, only), key=lambda found: (found.operator.is_general, found.rank)):
        if trees.is_new(found.edits) and not _refuted(file, found):
            yield found


def _refuted(file: SourceFile, found: Found) -> bool:
    """Whether a mutant, seen what the program computes, stops it or is no mutant at all."""
    if file.forecast is None:
        return False
    return file.forecast.of(found.edits) in (Outcome.MISFIT, Outcome.SAME)


def find(file: SourceFile, only: Iterable[str] | None = None) -> Iterator[Found]:
    """Every proposal of every operator, from one walk over the file."""
    table = registry.by_node(None if only is None else frozenset(only))
    for node in file.order:
        for operator in table.get(type(node), ()):
            for proposal in operator.propose(file, node):
                yield _found(file, node, operator, proposal)


def choose(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """A seed's choice of mutants, each operator once before any comes twice."""
    turn: Counter[str] = Counter()
    ranked = []
    for mutant in sorted(mutants, key=lambda mutant: _draw(seed, mutant.key)):
        ranked.append((turn[mutant.operator], mutant))
        turn[mutant.operator] += 1
    ranked.sort(key=lambda pair: pair[0])
    return [mutant for _, mutant in ranked[:count]]


def _found(file: SourceFile, node: cst.CSTNode, operator: Operator, proposal: Proposal) -> Found:
    row = proposal.row or operator.rows[0]
    if row not in operator.rows:
        raise OperatorError(f"{operator.id} proposes row {row}; add it to rows")
    if not proposal.edits:
        raise OperatorError(f"{operator.id} proposes nothing; give the proposal an edit")
    return Found(operator, file.scope(node), row, tuple(in_order(proposal.edits)), proposal)


def _identity(file: SourceFile, found: Found) -> tuple[str, ...]:
    """What stays the same about a mutant when lines elsewhere change."""
    old = [edit.old or _line_at(file.source, edit.start) for edit in found.edits]
    new = [edit.new for edit in found.edits]
    return found.operator.id, found.scope, "\x1f".join(old), "\x1f".join(new)


def _mutant(file: SourceFile, found: Found, identity: tuple[str, ...], nth: int) -> Mutant:
    whole = "\0".join((*identity, str(nth))).encode("utf-8", "surrogatepass")
    return Mutant(
        key=blake2b(whole, digest_size=KEY_BYTES).hexdigest(),
        operator=found.operator.id,
        row=found.row,
        line=_line_number(file.source, found.edits[0]),
        scope=found.scope,
        edits=found.edits,
        params=tuple(sorted(found.proposal.params.items())),
    )


def _line_number(source: str, edit: Edit) -> int:
    """The line of the first code that an edit touches, behind comments that go with it."""
    above = COMMENTS.match(edit.old)
    skipped = above.end() if above and above.end() < len(edit.old) else 0
    return line_of(source, edit.start + skipped)


def _line_at(source: str, position: int) -> str:
    start = source.rfind("\n", 0, position) + 1
    end = source.find("\n", position)
    return source[start : end if end >= 0 else len(source)].strip()


def _draw(seed: int, key: str) -> bytes:
    return blake2b(f"{seed}\0{key}".encode(), digest_size=16).digest()
