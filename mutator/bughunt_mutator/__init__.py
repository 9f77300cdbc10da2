"""The mutator: realistic mistakes written into correct programs, text in and text out."""

from bughunt_mutator.disguise import Disguise, DisguiseError, disguise
from bughunt_mutator.distance import differing
from bughunt_mutator.edit import Edit, EditError, apply, reverse, revert
from bughunt_mutator.engine import Mutant, choose, enumerate_mutants
from bughunt_mutator.facts import Fact, Facts
from bughunt_mutator.facts import parsed as parse_facts
from bughunt_mutator.facts import plain as plain_facts
from bughunt_mutator.instrument import Instrumented, instrument
from bughunt_mutator.operator import Example, Operator, OperatorError, Proposal
from bughunt_mutator.refusals import SourceError
from bughunt_mutator.registry import load_operators
from bughunt_mutator.rewrite import load_rewrites
from bughunt_mutator.source import SourceFile
from bughunt_mutator.tree import TreeDisguise, disguise_tree, enumerate_tree, mutated

__all__ = [
    "Disguise",
    "DisguiseError",
    "Edit",
    "EditError",
    "Example",
    "Fact",
    "Facts",
    "Instrumented",
    "Mutant",
    "Operator",
    "OperatorError",
    "Proposal",
    "SourceError",
    "SourceFile",
    "TreeDisguise",
    "apply",
    "choose",
    "differing",
    "disguise",
    "disguise_tree",
    "enumerate_mutants",
    "enumerate_tree",
    "instrument",
    "load_operators",
    "load_rewrites",
    "mutated",
    "parse_facts",
    "plain_facts",
    "reverse",
    "revert",
]
