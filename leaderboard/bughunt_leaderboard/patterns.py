"""Patterns: other ways to write a challenge's program, from which the texts of the teams are cut.

A pattern is written by all rewrites of the mutator, so a comparison of two of them says little. It is used
only where it is proved: broken and repaired it answers as the challenge's own program does, to the last bit.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher

from bughunt_mutator import Edit, Mutant, TreeDisguise, disguise_tree

from bughunt import references
from bughunt.bugsets.challenge import Challenge
from bughunt.bugsets.proof import fingerprint, kept
from bughunt.judge.judge import Judge
from bughunt_leaderboard.folder import Folder, derived, write_text

TRIES = 3  # seeds for each pattern that is asked for
Files = Mapping[str, str]


@dataclass(frozen=True)
class Pattern:
    """One program in two states, and its own names -> the challenge's."""

    broken: Files
    repaired: Files
    words: Mapping[str, str]


def patterns(folder: Folder, challenge: Challenge) -> list[Pattern]:
    """Those that were proved; where there are none, the challenge's own text."""
    path = folder.path / "patterns" / f"{challenge.id}.json"
    if not path.is_file():
        return [Pattern(challenge.program(), challenge.sealed().repaired, {})]
    return [Pattern(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]


def prove(folder: Folder, count: int, tell: Callable[[str], None]) -> None:
    """Write and prove so many patterns of each challenge; `tell` hears of each challenge that is done."""
    challenges = list(folder.challenges().values())
    with Judge() as judge:
        for number, challenge in enumerate(challenges, 1):
            found = proved(judge, challenge, folder.key, count)
            if found:
                text = json.dumps([asdict(one) for one in found])
                write_text(folder.path / "patterns" / f"{challenge.id}.json", text)
            tell(f"{challenge.id}: {len(found)} of {count} patterns hold ({number} of {len(challenges)})")


def proved(judge: Judge, challenge: Challenge, key: bytes, count: int) -> list[Pattern]:
    """Up to so many, each another text."""
    reference = references.load(challenge.reference)
    program, repaired = challenge.program(), dict(challenge.sealed().repaired)
    bugs, keep, seed = differences(repaired, program), kept(reference.task), challenge.sealed().seeds[0]
    plain = [fingerprint(judge, files, reference, seed) for files in (program, repaired)]
    found: list[Pattern] = []
    for number in range(TRIES * count):
        try:
            cover = disguise_tree(repaired, derived(key, "pattern", challenge.id, number), keep, bugs)
        except ValueError:
            continue
        one = Pattern(cover.broken(), cover.files, _words(cover))
        answers = [fingerprint(judge, files, reference, seed) for files in (one.broken, one.repaired)]
        if answers == plain and one.broken not in [other.broken for other in found]:
            found.append(one)
        if len(found) == count:
            break
    return found


def differences(repaired: Files, program: Files) -> list[Mutant]:
    """What makes a repaired program the broken one, as edits of whole lines."""
    return [
        Mutant("difference", "", "", 1, "<module>", edits, path=path)
        for path, text in repaired.items()
        if (edits := _edits(text, program[path]))
    ]


def _edits(before: str, after: str) -> tuple[Edit, ...]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    starts = [0]
    for line in old:
        starts.append(starts[-1] + len(line))
    return tuple(
        Edit(starts[a], starts[b], "".join(old[a:b]), "".join(new[c:d]))
        for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if tag != "equal"
    )


def _words(cover: TreeDisguise) -> dict[str, str]:
    renamings = [one.renaming for one in cover.covers.values() if one.renaming]
    return {new: old for renaming in renamings for (_, old), new in renaming.names.items()}
