"""The log of a workspace: JSON lines, appended and synced, the only record of progress."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """An append-only file of events; whatever cannot be read at its end is set aside, never lost."""

    path: Path

    def append(self, event: str, challenge: str, **fields: Any) -> Event:
        """Add one line and wait until the disk has it."""
        record = {"time": _now(), "event": event, "challenge": challenge, **fields}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.path) as descriptor:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        return record

    def read(self) -> tuple[list[Event], Path | None]:
        """The events, and the file that an unreadable tail was moved to, if there was one."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return [], None
        events, good = _parse(content)
        return events, None if good == len(content) else self._set_aside()

    def _set_aside(self) -> Path | None:
        with _locked(self.path) as descriptor:
            content = self.path.read_bytes()
            _, good = _parse(content)
            if good == len(content):
                return None  # another process has mended it
            backup = _unused(self.path.with_suffix(self.path.suffix + ".bak"))
            backup.write_bytes(content[good:])
            os.ftruncate(descriptor, good)
            return backup


def _parse(content: bytes) -> tuple[list[Event], int]:
    """The events of the readable beginning, and its length in bytes."""
    events: list[Event] = []
    good = 0
    for line in content.splitlines(keepends=True):
        event = _event(line)
        if event is None:
            break
        events.append(event)
        good += len(line)
    return events, good


def _event(line: bytes) -> Event | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    known = isinstance(record, dict) and all(
        isinstance(record.get(key), str) for key in ("time", "event", "challenge")
    )
    return record if known else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(ModuleNotFoundError):  # Windows: one writer is the player's word
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}{number}")
    return candidate


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
