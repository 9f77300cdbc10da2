"""Which bug sets there are: those that ship, those in the checkout, those that the user made."""

from collections.abc import Sequence
from pathlib import Path

import platformdirs

from bughunt.bugsets.challenge import BugSet, Challenge
from bughunt.errors import UsageError

PACKAGE = Path(__file__).parents[1]
CHECKOUT = PACKAGE.parents[1]


def shipped() -> Path:
    """The folder of the sets that come with bughunt: the checkout's, else the wheel's."""
    checkout = CHECKOUT / "bugs"
    return checkout if (CHECKOUT / "pyproject.toml").exists() and checkout.is_dir() else PACKAGE / "bugs"


def user_sets() -> Path:
    return Path(platformdirs.user_data_dir("bughunt", appauthor=False)) / "bugs"


def default_out() -> Path:
    """Where a new set goes: `bugs/` in a checkout, the user's data folder elsewhere."""
    return shipped() if shipped() == CHECKOUT / "bugs" else user_sets()


def sets(roots: Sequence[Path] | None = None) -> list[BugSet]:
    """All sets below the roots, else the user's and those that ship; a folder with a `set.toml` is one.

    IntegrityError for a damaged one.
    """
    folders: dict[str, Path] = {}
    for root in (user_sets(), shipped()) if roots is None else roots:
        for path in sorted(root.glob("*/set.toml")):
            folders[path.parent.name] = path.parent
    return [BugSet.load(folders[name]) for name in sorted(folders, key=lambda n: (n != "starter", n))]


def find_set(name: str, roots: Sequence[Path] | None = None) -> BugSet:
    if Path(name).joinpath("set.toml").is_file():
        return BugSet.load(Path(name))
    known = sets(roots)
    for bugset in known:
        if bugset.name == name:
            return bugset
    raise UsageError(f"no bug set '{name}'", _hint(name, [bugset.name for bugset in known]))


def find_challenge(id_: str, roots: Sequence[Path] | None = None) -> Challenge:
    known: list[str] = []
    for bugset in sets(roots):
        if id_ in bugset.order:
            return Challenge.load(bugset.folder / id_)
        known += bugset.order
    raise UsageError(f"no challenge '{id_}'", _hint(id_, known))


def _hint(word: str, known: list[str]) -> str:
    import difflib  # for who mistypes

    near = difflib.get_close_matches(word, known, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else "`bughunt list` shows what there is"
