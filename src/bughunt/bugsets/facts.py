"""Runtime facts: what every expression of a program is, recorded once by running it.

The mutator instruments the text, a worker runs it, and the recorder beside it notes what goes by. The facts
count only if the instrumented program answers as the plain one does, to the last bit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bughunt_mutator import Facts, instrument, parse_facts

from bughunt.bugsets import proof, recorder
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError, RemoteProgram
from bughunt.references import Reference

MODULE = "bughunt_recorder"
FORMAT = 1  # of what `record` gives; what was remembered in another is recorded anew

Files = Mapping[str, str]


def instrumented(files: Files) -> tuple[dict[str, str], list[tuple[str, int, int]]]:
    """The program with its recorder, and for each number the file and the span of the expression."""
    texts, places = dict(files), list[tuple[str, int, int]]()
    for path, text in sorted(files.items()):
        if path.endswith(".py") and (made := instrument(text, MODULE, len(places))) is not None:
            texts[path] = made.text
            places += [(path, *span) for span in made.spans]
    texts[f"{MODULE}.py"] = Path(recorder.__file__).read_text(encoding="utf-8")
    return texts, places


def record(judge: Judge, files: Files, reference: Reference, seed: int) -> dict[str, list[dict[str, Any]]]:
    """The facts of each file, as plain data; ProgramError where recording changes the program's answers."""
    texts, places = instrumented(files)
    found: dict[int, _Merged] = defaultdict(_Merged)

    def listen(program: RemoteProgram) -> None:
        for number, seen, order in program.call(f"{MODULE}.facts"):
            found[number].add(seen, order)

    plain = proof.fingerprint(judge, files, reference, seed)
    if proof.fingerprint(judge, texts, reference, seed, listen) != plain:
        raise ProgramError("error", "the program answers otherwise while facts are recorded")
    by_file: dict[str, list[dict[str, Any]]] = {path: [] for path in sorted(files)}
    for number, merged in sorted(found.items()):
        path, start, end = places[number]
        by_file[path].append({"start": start, "end": end, **merged.shown()})
    return by_file


class _Merged:
    """What several runs saw of one expression."""

    def __init__(self) -> None:
        self.facts: list[Any] = []
        self.order: list[int] = []

    def add(self, seen: Sequence[Any], order: Sequence[int]) -> None:
        self.facts += [fact for fact in seen if fact not in self.facts]
        self.order += [self.facts.index(seen[at]) for at in order]

    def shown(self) -> dict[str, Any]:
        names = ("kind", "shape", "dtype", "grad", "value")
        seen = [dict(zip(names, fact, strict=True)) for fact in self.facts]
        return {"seen": seen, "order": self.order if len(seen) > 1 else []}


def parsed(recorded: Mapping[str, Sequence[Mapping[str, object]]]) -> dict[str, Facts]:
    """What `record` gave, as the mutator takes it."""
    return {path: parse_facts(noted) for path, noted in recorded.items()}
