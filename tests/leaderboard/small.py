"""A bug set that is judged in seconds."""

import shutil
from pathlib import Path

from bughunt.bugsets import library
from bughunt.bugsets.challenge import BugSet
from bughunt.bugsets.write import toml

CHALLENGE = "bh-6016bb"


def small_set(folder: Path) -> BugSet:
    """A set of one challenge."""
    shutil.copytree(library.find_challenge(CHALLENGE).folder, folder / CHALLENGE)
    about = {"title": "Small", "format_version": 1, "challenges": [CHALLENGE]}
    (folder / "set.toml").write_text(toml(about), encoding="utf-8")
    return BugSet.load(folder)
