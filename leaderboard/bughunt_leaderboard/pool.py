"""An executor: processes that judge what waits, started anew when one dies.

`local` is one process for each judge on this machine; `ray` is one process that has judges on a Ray cluster.
The queue in the database is the truth for both, so neither has anything to lose.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from bughunt.errors import MachineError
from bughunt.judge.sandbox.fence import Tier

LOOK = 0.5  # seconds between two looks at the processes
SHORT = 5.0  # seconds; one that lived no longer is not started anew at once
KEEPER = "BUGHUNT_KEEPER"  # names the process that started a worker
GRACE = 90.0  # seconds in which a worker may finish what it judges


def local(folder: Path, workers: int, tier: Tier) -> list[list[str]]:
    """Each judge a process of this machine."""
    return [_module("worker", str(folder), tier.name) for _ in range(workers)]


def ray(folder: Path, workers: int, tier: Tier, address: str = "", gpus: float = 0.0) -> list[list[str]]:
    """One process that claims for so many judges on a cluster; MachineError where Ray is missing."""
    if find_spec("ray") is None:
        raise MachineError("--executor ray needs ray", "python -m pip install 'bughunt-ml[cluster]'")
    return [_module("cluster", str(folder), tier.name, str(workers), str(gpus), address)] if workers else []


def tailor(folder: Path) -> list[list[str]]:
    """The process that makes the texts of teams before they ask."""
    return [_module("tailor", str(folder))]


class Pool:
    """Keeps processes running until the block ends."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self.commands = commands
        self.workers: list[subprocess.Popen[bytes]] = []
        self.ending = threading.Event()

    def __enter__(self) -> Self:
        self.workers = [_start(command) for command in self.commands]
        self.begun = [time.monotonic() for _ in self.workers]
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()
        return self

    def keep(self) -> None:
        while not self.ending.wait(LOOK):
            for number, one in enumerate(self.workers):
                if one.poll() is not None and time.monotonic() - self.begun[number] > SHORT:
                    self.workers[number] = _start(self.commands[number])
                    self.begun[number] = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self.keeper.join()
        for one in self.workers:
            one.terminate()
        for one in self.workers:
            try:
                one.wait(GRACE)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()


def _module(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"bughunt_leaderboard.{name}", *words]


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=_environment(), stdin=subprocess.DEVNULL)


def _environment() -> Mapping[str, str]:
    """One thread a worker, which knows whom it ends with even if that one is gone before it has begun."""
    return {**os.environ, "OMP_NUM_THREADS": "1", KEEPER: str(os.getpid())}
