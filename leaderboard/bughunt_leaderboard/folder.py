"""A competition's folder: the database, the key of its secrets, the set that is played.

DIR/board.db          unless the database is elsewhere
DIR/key               32 random bytes; variants and seeds follow from it
DIR/competition.json  database, set, and the version of bughunt that runs it
DIR/variants/         each team's texts, as they were first made
"""

import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from bughunt import __version__
from bughunt.bugsets.challenge import BugSet, Challenge
from bughunt.errors import MachineError
from bughunt.files import write_bytes
from bughunt_leaderboard.warmup import WARM_UP, warm_up

SETTINGS = "competition.json"
SECRET = 0o600


@dataclass(frozen=True)
class Folder:
    """Where one competition lives on the host's disk."""

    path: Path
    database: str
    set_folder: str

    @classmethod
    def make(cls, path: Path, set_folder: Path, database: str | None) -> "Folder":
        """A new folder, or the one that is there already."""
        path.mkdir(parents=True, exist_ok=True)
        if (path / SETTINGS).exists():
            return cls.load(path)
        url = database or f"sqlite:///{(path / 'board.db').resolve()}"
        made = cls(path, url, str(set_folder.resolve()))
        write_bytes(path / "key", secrets.token_bytes(32), mode=SECRET)
        made.stamp()
        return made

    def stamp(self) -> None:
        """Write down what is here, and that this version of bughunt runs it from now on."""
        settings = {**asdict(self), "version": __version__}
        del settings["path"]
        write_text(self.path / SETTINGS, json.dumps(settings, indent=1) + "\n")

    def check_version(self) -> None:
        """MachineError where another version of bughunt runs the competition."""
        version = self._settings(self.path)["version"]
        if version != __version__:
            raise MachineError(
                f"this is bughunt {__version__}, the competition is run by {version}",
                "install the same version on every machine of it",
            )

    @classmethod
    def load(cls, path: Path) -> "Folder":
        settings = cls._settings(path)
        return cls(path, settings["database"], settings["set_folder"])

    @staticmethod
    def _settings(path: Path) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
            return {name: found[name] for name in ("database", "set_folder", "version")}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise MachineError(f"{path} holds no competition ({error})", "bughunt host --data DIR") from None

    @property
    def key(self) -> bytes:
        return (self.path / "key").read_bytes()

    def challenges(self) -> dict[str, Challenge]:
        return {one.id: one for one in BugSet.load(Path(self.set_folder)).challenges()}

    def judged(self) -> dict[str, Challenge]:
        """What submissions may be to: the set, and the warm-up."""
        return {**self.challenges(), WARM_UP: warm_up()}


def derived(key: bytes, *words: object) -> int:
    """A number that only who has the competition's key can foretell."""
    return int.from_bytes(hmac.digest(key, "\0".join(map(str, words)).encode(), "sha256")[:7])


def write_text(path: Path, text: str) -> None:
    """For the owner's eyes, whole or not at all."""
    write_bytes(path, text.encode("utf-8"), mode=SECRET)
