"""A worker: claims a job, has it judged on its bench, gives the verdict.

Runs as `python -m bughunt_leaderboard.worker DIR TIER`, where DIR is the competition's folder. A worker that
is killed loses its lease and the job is claimed again; one that is asked to end finishes what it judges.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, Self

from sqlalchemy.exc import DBAPIError

from bughunt.errors import BughuntError
from bughunt.judge.judge import Judge
from bughunt.judge.sandbox.fence import Tier
from bughunt_leaderboard.assignment import Assignment, Said, Tell, assigned, judged
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.pool import KEEPER
from bughunt_leaderboard.queue import Lease, Queue
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store

IDLE = 0.25  # seconds between two looks at an empty queue
JOBS_OF_A_BENCH = 200  # then it is made anew


class Bench(Protocol):
    """Where programs are judged, one at a time."""

    def judged(self, one: Assignment, tell: Tell) -> Said: ...


class LocalBench:
    """A judge in this process, which runs programs in a sandbox of this machine."""

    def __init__(self, tier: Tier) -> None:
        self.judge = Judge(tier=tier)

    def __enter__(self) -> Self:
        self.judge.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.judge.__exit__(*error)

    def judged(self, one: Assignment, tell: Tell) -> Said:
        return judged(self.judge, one, tell)


class Worker:
    """One job at a time, until it is told to stop."""

    def __init__(
        self, folder: Folder, bench: Callable[[], AbstractContextManager[Bench]], name: str = ""
    ) -> None:
        self.folder, self.bench = folder, bench
        folder.check_version()
        self.store = Store(folder.database)
        self.queue = Queue(self.store, running=Referee(self.store).fresh().rules.running)
        self.challenges = folder.judged()
        self.name = f"{socket.gethostname()}:{os.getpid()}{name}"
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            with self.bench() as bench, contextlib.suppress(DBAPIError):  # the job is claimed again
                for _ in range(JOBS_OF_A_BENCH):
                    if not self.turn(bench):
                        break
            self.stopping.wait(IDLE)

    def turn(self, bench: Bench) -> bool:
        """One job, once there is one; False where the bench should be a new one."""
        while (lease := self.queue.claim(self.name)) is None:
            if self.stopping.wait(IDLE):
                return False
            self.folder.check_version()
        try:
            with self.renewed(lease) as tell:
                said = bench.judged(assigned(self.folder, self.challenges[lease.challenge], lease), tell)
        except Exception as error:  # the fault is ours, whatever it is: no team pays for it
            self.queue.give_back(lease, f"{type(error).__name__}: {error}")
            return False
        if said["outcome"] == "INFRA":
            self.queue.give_back(lease, said["detail"])
            return False
        self.queue.finish(lease, said["outcome"], said)
        return not self.stopping.is_set()

    @contextlib.contextmanager
    def renewed(self, lease: Lease) -> Iterator[Tell]:
        """Renew the lease while the block runs."""
        done, progress = threading.Event(), [""]

        def renew() -> None:
            while not done.wait(self.queue.lease / 3000):
                with contextlib.suppress(DBAPIError):  # one of the next comes in time, or the lease is lost
                    self.queue.renew(lease, progress[0])

        def tell(now: str) -> None:
            progress[0] = now

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield tell
        finally:
            done.set()
            thread.join()

    def stop(self, *_: object) -> None:
        self.stopping.set()


def follow(parent: int) -> None:
    """End with the process that started this one, however that ends."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def obey(stop: Callable[..., None]) -> None:
    """SIGTERM asks to end, Ctrl-C is for the process that started this one, and so is its end."""
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, args=(int(os.environ.get(KEEPER, os.getppid())),), daemon=True).start()


def main() -> None:
    folder, tier = Folder.load(Path(sys.argv[1])), Tier[sys.argv[2]]
    worker = Worker(folder, lambda: LocalBench(tier))
    obey(worker.stop)
    worker.run()


if __name__ == "__main__":
    try:
        main()
    except BughuntError as error:
        sys.exit(f"{error.message}\n{error.remedy}")
