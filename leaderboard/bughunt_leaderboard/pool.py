"""The local pool: worker processes on this machine, started anew when one dies."""

import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from bughunt.judge.sandbox.fence import Tier
from bughunt_leaderboard.worker import environment

LOOK = 0.5  # seconds between two looks at the workers
GRACE = 90.0  # seconds in which a worker may finish what it judges


class Pool:
    """As many workers as asked for, until the block ends."""

    def __init__(self, folder: Path, workers: int, tier: Tier) -> None:
        self.command = [sys.executable, "-m", "bughunt_leaderboard.worker", str(folder), tier.name]
        self.count = workers
        self.workers: list[subprocess.Popen[bytes]] = []
        self.ending = threading.Event()

    def __enter__(self) -> Self:
        self.workers = [self.start() for _ in range(self.count)]
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()
        return self

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env=environment(), stdin=subprocess.DEVNULL)

    def keep(self) -> None:
        while not self.ending.wait(LOOK):
            self.workers = [self.start() if one.poll() is not None else one for one in self.workers]

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
