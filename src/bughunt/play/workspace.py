"""The workspace: one visible folder with the player's files, the log, the snapshots and the runs.

hunt/<id>/            train.py, run.py, data.npz, BRIEF.md
hunt/.bughunt/        format, log.jsonl, attempts/<id>/0001/, trash/
hunt/runs/            TensorBoard
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bughunt.bugsets.challenge import Challenge
from bughunt.errors import MachineError, UsageError
from bughunt.files import write_text, write_tree
from bughunt.play.log import Event, Log
from bughunt.play.progress import Progress, State, derive

FORMAT = 1
HIDDEN = ".bughunt"
JOINED = Path(HIDDEN) / "sets"  # of a competition, below the workspace
DEFAULT = "hunt"
MAX_BYTES = 1_000_000


def locate(asked: Path | None, home: str | None, here: Path) -> Path:
    """`--workspace`, then BUGHUNT_HOME, then the nearest one at or above `here`, then ./hunt."""
    if asked is not None:
        return asked
    if home:
        return Path(home)
    for folder in (here, *here.parents):
        for candidate in (folder, folder / DEFAULT):
            if (candidate / HIDDEN).is_dir():
                return candidate
    return here / DEFAULT


@dataclass(frozen=True)
class Workspace:
    """A folder that may not exist yet; every read works on an absent one."""

    root: Path

    @property
    def exists(self) -> bool:
        return (self.root / HIDDEN).is_dir()

    @property
    def log(self) -> Log:
        return Log(self.root / HIDDEN / "log.jsonl")

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def folder(self, challenge: str) -> Path:
        return self.root / challenge

    def check_format(self) -> None:
        """Refuse a workspace that another version of bughunt wrote."""
        path = self.root / HIDDEN / "format"
        if not self.exists:
            return
        found = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
        if found != str(FORMAT):
            raise MachineError(
                f"{self.root} has workspace format {found or 'unknown'}, this bughunt reads {FORMAT}",
                "use the bughunt that made it, or start afresh with --workspace DIR",
            )

    def create(self) -> None:
        if not self.exists:
            write_text(self.root / HIDDEN / "format", f"{FORMAT}\n")
        self.check_format()

    def state(self) -> tuple[State, Path | None]:
        """Progress as the log tells it, and where an unreadable end of the log was moved."""
        self.check_format()
        events, backup = self.log.read()
        return derive(events), backup

    def record(self, event: str, challenge: str, **fields: object) -> Event:
        self.create()
        return self.log.append(event, challenge, **fields)

    def take(self, challenge: Challenge) -> None:
        """Lay out the files that are not there yet; the player's own stay as they are."""
        self.create()
        folder = self.folder(challenge.id)
        missing = {n: t for n, t in challenge.program().items() if not (folder / n).exists()}
        write_tree(folder, missing)
        write_text(folder / "BRIEF.md", challenge.brief())

    def program(self, challenge: Challenge) -> dict[str, str]:
        """The player's files: path -> text, line ends as they are."""
        return {name: self._read(challenge, name) for name in challenge.program()}

    def _read(self, challenge: Challenge, name: str) -> str:
        path = self.folder(challenge.id) / name
        if not path.is_file():
            raise MachineError(f"{path} is missing", f"bughunt reset {challenge.id}")
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise UsageError(
                f"{path} has {len(content)} bytes, {MAX_BYTES} are allowed",
                "keep data and weights out of the program",
            )
        return content.decode("utf-8", errors="surrogateescape")

    def write(self, challenge: Challenge, files: Mapping[str, str]) -> Path:
        """Replace the player's files; the present ones go to the trash, which is returned."""
        folder = self.folder(challenge.id)
        trash = self._trash(challenge.id)
        for name in files:
            if (folder / name).exists():
                (trash / name).parent.mkdir(parents=True, exist_ok=True)
                (trash / name).write_bytes((folder / name).read_bytes())
        write_tree(folder, files)
        return trash

    def _trash(self, challenge: str) -> Path:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        path = self.root / HIDDEN / "trash" / f"{challenge}-{stamp}"
        path.mkdir(parents=True)
        return path

    def attempt_folder(self, challenge: str, number: int) -> Path:
        return self.root / HIDDEN / "attempts" / challenge / f"{number:04d}"

    def snapshot(self, challenge: Challenge, number: int) -> dict[str, str]:
        """The files as they were judged in attempt `number`."""
        folder = self.attempt_folder(challenge.id, number)
        if not folder.is_dir():
            raise UsageError(f"{challenge.id} has no attempt {number}", "bughunt curve lists the attempts")
        files = {}
        for name in challenge.program():
            with open(folder / name, encoding="utf-8", newline="") as file:
                files[name] = file.read()
        return files

    def version(self, challenge: Challenge, progress: Progress, to: str) -> dict[str, str]:
        """The files that `reset --to` names: original, best, last or the number of an attempt."""
        if to == "original":
            return challenge.program()
        if to.isdigit():
            return self.snapshot(challenge, int(to))
        if to not in ("best", "last"):
            raise UsageError(f"no version {to!r}", "original, best, last or a number")
        attempt = progress.best_attempt if to == "best" else progress.last_attempt
        if attempt is None:
            raise UsageError(f"{challenge.id} has no attempt yet", "bughunt reset --to original")
        return self.snapshot(challenge, attempt["attempt"])
