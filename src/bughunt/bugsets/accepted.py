"""What a challenge is made of, once it is proved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bughunt_mutator import Mutant

from bughunt.bugsets.challenge import Curves
from bughunt.references import Reference


@dataclass(frozen=True)
class Accepted:
    """One or more mutants of a program that passed the gates together, in their disguise."""

    reference: Reference
    mutants: Sequence[Mutant]
    configuration: str
    broken: Mapping[str, str]
    repaired: Mapping[str, str]
    failed: Sequence[str]
    passed: Sequence[str]
    curves: Curves
    label: str
    own: Sequence[Sequence[str]] = ()  # where there are several: the tests of each alone
    alone: Sequence[Mapping[str, str]] = ()  # where there are several: the program with only one of them
    rewrites: Mapping[str, int] | None = None  # the disguise: how often each was made

    @property
    def key(self) -> str:
        return "+".join(mutant.key for mutant in self.mutants)
