"""What this machine can fence a program in with, found out by trying it.

`python -m bughunt.judge.sandbox.tier` prints it as JSON.
"""

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bughunt.judge import folders
from bughunt.judge.limits import Limits
from bughunt.judge.sandbox.fence import Fence, Tier


@dataclass(frozen=True)
class Standing:
    """The strongest tier that holds, and why each stronger one does not."""

    tier: Tier
    lacking: dict[str, str]


def survey(most: Tier = Tier.S2) -> Standing:
    """Try the tiers from the strongest on; nothing of it lasts."""
    lacking: dict[str, str] = {}
    for tier in reversed(Tier):
        if tier > most:
            continue
        why = trial(tier)
        if not why:
            return Standing(tier, lacking)
        lacking[tier.name] = why
    raise OSError(lacking[Tier.S0.name])


def trial(tier: Tier) -> str:
    """What keeps a worker of this tier from starting here, or from being held; empty if nothing does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _attempt(tier, writing)
    os.close(writing)
    with open(reading, encoding="utf-8") as said:
        why = said.read()
    os.waitpid(pid, 0)
    return why


def _attempt(tier: Tier, report: int) -> NoReturn:
    with _told(report):
        folder = Path(tempfile.mkdtemp(prefix="bughunt-"))
        fence = Fence(tier, folder)
        fence.enclose()
        fence.furnish()
        pid = fence.fork()
        if pid == 0:
            fence.shut(0, 0, Limits())
            _prove(tier)
            os._exit(0)
        os.waitpid(pid, 0)
        folders.remove(folder)
    os._exit(0)


@contextlib.contextmanager
def _told(report: int) -> Iterator[None]:
    """An error ends this process and is the other side's to read."""
    try:
        yield
    except BaseException as error:
        os.write(report, f"{error}".encode())
        os._exit(1)


def _prove(tier: Tier) -> None:
    """A worker of a fenced tier starts no process and opens no line to others."""
    if tier == Tier.S0:
        return
    for what, attempt in (("process", os.fork), ("socket", socket.socket)):
        with contextlib.suppress(PermissionError):
            if attempt() == 0:
                os._exit(0)
            raise OSError(0, f"a {what} could be made in spite of seccomp")


def main() -> None:
    found = survey()
    print(json.dumps({"tier": found.tier.name, "lacking": found.lacking}))


if __name__ == "__main__":
    main()
