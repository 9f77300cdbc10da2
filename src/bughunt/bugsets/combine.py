"""Several bugs in one program, none of which hides another.

Each bug has tests of its own: they fail for it alone and for none of the others. The bugs together fail all
that any of them fails, so that a repair of some of them is seen, is not a regression and does not pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from bughunt_mutator import EditError, Mutant, mutated

from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.references import Reference

APART = 3  # lines between two bugs of one function


@dataclass(frozen=True)
class Suspect:
    """A mutant that is told from its reference, and what the tests say of it."""

    mutant: Mutant
    configuration: str
    tests: Finding


def own_tests(group: Sequence[Suspect]) -> list[list[str]]:
    """For each bug the tests that fail for it and for no other of the group."""
    failed = [set(suspect.tests.failed) for suspect in group]
    others = [set().union(*(failed[:n] + failed[n + 1 :])) for n in range(len(group))]
    return [sorted(mine - rest) for mine, rest in zip(failed, others, strict=True)]


def groups(
    reference: Reference, known: Sequence[Suspect], fresh: Sequence[Suspect], size: int
) -> Iterator[tuple[Suspect, ...]]:
    """Every group with a fresh suspect in it whose bugs differ in kind and place and are told apart."""
    everyone = [*known, *fresh]
    for group in combinations(everyone, size):
        if not any(suspect in fresh for suspect in group):
            continue
        if len({suspect.configuration for suspect in group}) == 1 and fit_together(reference, group):
            yield group


def fit_together(reference: Reference, group: Sequence[Suspect]) -> bool:
    """Whether bugs of different kinds do not touch and are each seen by a test of their own."""
    mutants = [suspect.mutant for suspect in group]
    if len({mutant.row for mutant in mutants}) < len(mutants) or not all(own_tests(group)):
        return False
    if any(_are_near(one, two) for one, two in combinations(mutants, 2)):
        return False
    try:
        mutated(reference.files, *mutants)
    except EditError:
        return False
    return True


def _are_near(one: Mutant, two: Mutant) -> bool:
    return (one.path, one.scope) == (two.path, two.scope) and abs(one.line - two.line) < APART


def joint_tests(
    reference: Reference, group: Sequence[Suspect], seed: int, evaluate: Evaluator
) -> Finding | None:
    """The tests of all the bugs together; None where some of them mask another.

    Some of the bugs must fail every test that one of them fails, and none that belongs to a bug left out.
    """
    if len(group) == 1:
        return group[0].tests
    numbers = range(len(group))
    parts = [part for size in range(2, len(group) + 1) for part in combinations(numbers, size)]
    texts = [mutated(reference.files, *(group[n].mutant for n in part)) for part in parts]
    first = next(iter(reference.task.configurations))
    looks = evaluate([Job(reference.slug, first, files, tests=True, seed=seed) for files in texts])
    own = own_tests(group)
    for part, look in zip(parts, looks, strict=True):
        due = {name for n in part for name in group[n].tests.failed}
        spared = {name for n in numbers if n not in part for name in own[n]}
        if look.error or not look.passed or not due <= set(look.failed) or spared & set(look.failed):
            return None
    return looks[-1]


def recall(own: Sequence[Sequence[str]], passed: Sequence[str]) -> float:
    """The share of the bugs all of whose own tests pass: how many of them were found."""
    done = set(passed)
    return sum(done.issuperset(tests) for tests in own) / len(own) if own else 0.0
