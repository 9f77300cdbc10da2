"""What a team is given: each challenge in a text of its own, and nothing that is sealed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bughunt_mutator import TreeDisguise, disguise_tree, load_rewrites
from bughunt_mutator.disguise import DisguiseError

from bughunt.bugsets.challenge import CURVES, Challenge
from bughunt.bugsets.proof import kept
from bughunt_leaderboard.folder import Folder, derived, write_text
from bughunt_leaderboard.patterns import Pattern, patterns

TRIES = 5  # seeds, where one draws a name that the text already has


@dataclass(frozen=True)
class Text:
    """A challenge as one team holds it, and the team's names -> the challenge's."""

    files: Mapping[str, str]
    words: Mapping[str, str]


def variant(challenge: Challenge, folder: Folder, team: int) -> dict[str, str]:
    """The broken program under this team's names: path -> text, made once and kept."""
    return dict(text_of(challenge, folder, team).files)


def text_of(challenge: Challenge, folder: Folder, team: int) -> Text:
    """What a team was given, made once and kept."""
    stored = folder.path / "variants" / str(team) / f"{challenge.id}.json"
    if stored.is_file():
        return Text(**json.loads(stored.read_text(encoding="utf-8")))
    one = cut(challenge, folder, team)
    made = Text(one.broken, one.words)
    write_text(stored, json.dumps(asdict(made)))
    return made


def cut(challenge: Challenge, folder: Folder, team: int) -> Pattern:
    """A pattern of the challenge under names that the team has to itself, where a seed gives some."""
    from bughunt import references

    found = patterns(folder, challenge)
    one = found[derived(folder.key, "pattern of", team, challenge.id) % len(found)]
    keep = kept(references.load(challenge.reference).task)
    unproved = frozenset(id_ for id_, rewrite in load_rewrites().items() if rewrite.preserves == "bits")
    for number in range(TRIES):
        seed = derived(folder.key, "variant", team, challenge.id, number)
        try:
            return _renamed(one, disguise_tree(one.broken, seed, keep, leave_out=unproved))
        except DisguiseError:
            continue
    return one


def _renamed(one: Pattern, cover: TreeDisguise) -> Pattern:
    repaired, words = dict(one.repaired), dict(one.words)
    for path, each in cover.covers.items():
        if each.renaming is not None:
            repaired[path] = each.renaming.apply_to(one.repaired[path])
            for (_, old), new in each.renaming.names.items():
                words[new] = one.words.get(old, old)
    return Pattern(cover.files, repaired, words)


def bundle(challenge: Challenge, folder: Folder, team: int) -> dict[str, Any]:
    """The files of a challenge's folder as a player gets them."""
    shown = {name: (challenge.folder / name).read_text(encoding="utf-8") for name in SHOWN}
    return {"id": challenge.id, "files": {**shown, **variant(challenge, folder, team)}}


SHOWN = ("challenge.toml", "brief.md", CURVES)
