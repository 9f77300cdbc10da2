"""What a team is given: each challenge in a text of its own, and nothing that is sealed."""

import json
from typing import Any

from bughunt_mutator import TreeDisguise, disguise_tree, load_rewrites
from bughunt_mutator.disguise import DisguiseError

from bughunt.bugsets.challenge import CURVES, Challenge
from bughunt.bugsets.proof import kept
from bughunt_leaderboard.folder import Folder, derived, write_text

TRIES = 5  # seeds, where one draws a name that the text already has


def variant(challenge: Challenge, folder: Folder, team: int) -> dict[str, str]:
    """The broken program under this team's names: path -> text, made once and kept."""
    stored = folder.path / "variants" / str(team) / f"{challenge.id}.json"
    if stored.is_file():
        found: dict[str, str] = json.loads(stored.read_text(encoding="utf-8"))
        return found
    made = disguised(challenge, folder.key, team)
    files = made.files if made else challenge.program()
    write_text(stored, json.dumps(files))
    return files


def disguised(challenge: Challenge, key: bytes, team: int) -> TreeDisguise | None:
    """The broken program under names that a team has to itself; None where no seed gives any."""
    from bughunt import references

    program = challenge.program()
    keep = kept(references.load(challenge.reference).task)
    unproved = frozenset(id_ for id_, one in load_rewrites().items() if one.preserves == "bits")
    for number in range(TRIES):
        seed = derived(key, "variant", team, challenge.id, number)
        try:
            return disguise_tree(program, seed, keep, leave_out=unproved)
        except DisguiseError:
            continue
    return None


def bundle(challenge: Challenge, folder: Folder, team: int) -> dict[str, Any]:
    """The files of a challenge's folder as a player gets them."""
    shown = {name: (challenge.folder / name).read_text(encoding="utf-8") for name in SHOWN}
    return {"id": challenge.id, "files": {**shown, **variant(challenge, folder, team)}}


SHOWN = ("challenge.toml", "brief.md", CURVES)
