"""Likeness: what two teams changed in the same way, beyond what the repair itself explains.

Every file is put into the words of the challenge, since each team has names of its own, and parsed, so that
layout does not count. What is left of it, less the team's own text and less the known repair, is what the
team wrote. Lines that many teams wrote say nothing; a pair that shares several of the others is shown to a
person, and so is a file with names from another team's text. Nothing is decided here.
"""

import io
import re
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from bughunt_mutator.distance import normalised

Files = Mapping[str, str]

WORD = re.compile(r"[^\W\d]\w*")
FEWEST = 3  # shared lines, or names of another's text, from which a person is asked
COMMON = 0.25  # share of the teams from which a line is common knowledge
LIKE = 0.5  # share of what the shorter of two wrote that the other has too


@dataclass(frozen=True)
class Sent:
    """One submission, and the text that its team was given."""

    submission: int
    team: int
    files: Files
    handed_out: Files
    words: Mapping[str, str]  # the text's names -> the challenge's


@dataclass(frozen=True)
class Pair:
    """Two submissions of different teams that have more in common than the repair."""

    submissions: tuple[int, int]
    teams: tuple[int, int]
    likeness: float  # share of what the shorter one wrote
    lines: Sequence[str]  # in the challenge's words


@dataclass(frozen=True)
class Marked:
    """A submission with names that only another team's text has."""

    submission: int
    team: int
    other: int
    names: Sequence[str]


def dump(found: Iterable[Pair | Marked]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


def pairs(sent: Sequence[Sent], program: Files, repaired: Files) -> list[Pair]:
    """The pairs to look at, the most alike first; `repaired` is the known repair of `program`."""
    known = written(repaired, program, {})
    team = {one.submission: one.team for one in sent}
    lines = {one.submission: written(one.files, one.handed_out, one.words) - known for one in sent}
    holders: dict[str, list[int]] = defaultdict(list)
    for number, own in lines.items():
        for line in own:
            holders[line].append(number)
    limit = max(2, COMMON * len(set(team.values())))
    shared: dict[tuple[int, int], set[str]] = defaultdict(set)
    for line, numbers in holders.items():
        if len({team[number] for number in numbers}) <= limit:
            for one, other in combinations(sorted(numbers), 2):
                shared[one, other].add(line)
    found = [
        Pair(
            (one, other),
            (team[one], team[other]),
            len(same) / min(len(lines[one]), len(lines[other])),
            sorted(same),
        )
        for (one, other), same in shared.items()
        if len(same) >= FEWEST and team[one] != team[other]
    ]
    alike = [pair for pair in found if pair.likeness >= LIKE]
    return sorted(alike, key=lambda pair: (-pair.likeness, -len(pair.lines), pair.submissions))


def marked(sent: Sequence[Sent], handed_out: Mapping[int, Files], program: Files) -> list[Marked]:
    """Files with names of another team's text; `handed_out` is each team's."""
    texts = {team: words(files) for team, files in handed_out.items()}
    holders = Counter(word for own in texts.values() for word in own)
    found = []
    for one in sent:
        foreign = words(one.files) - words(one.handed_out) - words(program)
        for team, own in sorted(texts.items()):
            names = sorted(word for word in foreign & own if holders[word] == 1)
            if team != one.team and len(names) >= FEWEST:
                found.append(Marked(one.submission, one.team, team, names))
    return found


def written(files: Files, handed_out: Files, told: Mapping[str, str]) -> set[str]:
    """What was added to a text and not only moved: lines and comments, every word as it is `told`."""
    added: set[str] = set()
    for name, text in files.items():
        given = handed_out.get(name, "")
        added |= _lines(text) - _lines(given)
        added |= _comments(text) - _comments(given)
    return {WORD.sub(lambda word: told.get(word[0], word[0]), line) for line in added}


def words(files: Files) -> set[str]:
    """Every name that stands in the files, comments apart."""
    return {word for text in files.values() for word in _words_in_order(text)}


def _parsed(text: str) -> list[str]:
    """The lines of a program as they are printed anew; none of a text that is no program."""
    try:
        return normalised(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _words_in_order(text: str) -> list[str]:
    found: list[str] = []
    for line in _parsed(text):
        found += WORD.findall(line)
    return found


def _lines(text: str) -> set[str]:
    """Statements that say something: a single name or keyword does not."""
    return {line.strip() for line in _parsed(text) if len(WORD.findall(line)) > 1}


def _comments(text: str) -> set[str]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError, IndentationError):
        return set()
    return {token.string for token in tokens if token.type == tokenize.COMMENT and len(token.string) > 8}
