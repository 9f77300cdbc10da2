"""Looking at a program that was run: shapes, gradients, and whether an edit fits."""

from __future__ import annotations

import libcst as cst

from bughunt_mutator.edit import Edit
from bughunt_mutator.facts import Fact
from bughunt_mutator.forecast import Outcome
from bughunt_mutator.shapes import Shape
from bughunt_mutator.source import SourceFile


def arrays(f: SourceFile, node: cst.CSTNode) -> tuple[Fact, ...]:
    """What an expression was, if it was an array of known shape each time."""
    seen = f.seen(node)
    return seen if all(fact.is_array for fact in seen) else ()


def sizes(f: SourceFile, node: cst.CSTNode) -> tuple[Shape, ...]:
    """The shapes that an expression had, all of one rank."""
    found = tuple(fact.shape for fact in arrays(f, node) if fact.shape is not None)
    return found if len({len(shape) for shape in found}) == 1 else ()


def tracked(f: SourceFile, node: cst.CSTNode) -> bool:
    """Whether a gradient flows back through a tensor, at least at times."""
    return any(fact.kind == "tensor" and fact.grad for fact in f.seen(node))


def fits(f: SourceFile, *edits: Edit) -> bool:
    """Whether what comes of the edits has the shapes that are wanted, and is something else."""
    return f.forecast is not None and f.forecast.of(edits) is Outcome.FITS
