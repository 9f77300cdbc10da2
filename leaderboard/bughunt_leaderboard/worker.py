"""A worker: claims a job, lets the judge decide in the sandbox, gives the verdict.

Runs as `python -m bughunt_leaderboard.worker DIR`, where DIR is the competition's folder. The seeds are drawn
from the challenge's hidden ones under the competition's key. A worker that is killed loses its lease and the
job is claimed again; one that is asked to end gives its job back first.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bughunt.bugsets.case import case_of
from bughunt.bugsets.challenge import Challenge
from bughunt.bugsets.change import changed_lines
from bughunt.bugsets.seeds import choose_seeds
from bughunt.judge.judge import Judge
from bughunt.judge.plain import finite
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.verdict import Outcome, Verdict
from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.folder import Folder, derived
from bughunt_leaderboard.queue import Lease, Queue
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store

IDLE = 0.25  # seconds between two looks at an empty queue
SEEDS = 3
JOBS_OF_A_JUDGE = 200  # then the judge's warm parent is started anew
MAX_OUTPUT = 4000


class Worker:
    """One at a time, until it is told to stop."""

    def __init__(self, folder: Folder, tier: Tier = Tier.S2) -> None:
        self.folder, self.tier = folder, tier
        self.store = Store(folder.database)
        self.queue = Queue(self.store, running=Referee(self.store).fresh().rules.running)
        self.challenges = folder.challenges()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            with Judge(tier=self.tier) as judge:
                for _ in range(JOBS_OF_A_JUDGE):
                    if not self.turn(judge):
                        break

    def turn(self, judge: Judge) -> bool:
        """One job, once there is one; False where the judge should be a new one."""
        while (lease := self.queue.claim(self.name)) is None:
            if self.stopping.wait(IDLE):
                return False
        try:
            with self.renewed(lease) as progress:
                verdict = self.verdict(judge, lease, progress)
        except Exception as error:  # the fault is ours, whatever it is: no team pays for it
            self.queue.give_back(lease, f"{type(error).__name__}: {error}")
            return False
        if verdict.outcome is Outcome.INFRA:
            self.queue.give_back(lease, verdict.detail)
            return False
        self.queue.finish(lease, str(verdict.outcome), self.said(lease, verdict))
        return not self.stopping.is_set()

    def verdict(self, judge: Judge, lease: Lease, progress: dict[str, str]) -> Verdict:
        challenge = self.challenges[lease.challenge]

        def tell(kind: str, what: Any) -> None:
            if kind == "probe":
                progress["now"] = f"seed {what[0] % 1000}, step {what[1]}"
            elif kind == "test":
                progress["tests"] = str(int(progress.get("tests", "0")) + 1)
                progress["now"] = f"{progress['tests']} checks"

        handed_out = variant(challenge, self.folder, lease.team)
        case = replace(case_of(challenge), ranked=True, handed_out=handed_out)
        return judge.judge(lease.files, case, self.seeds(challenge, lease), on_event=tell)

    def seeds(self, challenge: Challenge, lease: Lease) -> tuple[int, ...]:
        key = derived(self.folder.key, "seeds", lease.challenge, lease.sha256)
        return choose_seeds(key.to_bytes(8), challenge.sealed().seeds, SEEDS)

    def said(self, lease: Lease, verdict: Verdict) -> dict[str, Any]:
        """What the team is shown: how many checks hold, never what they are."""
        original = variant(self.challenges[lease.challenge], self.folder, lease.team)
        curves = [{"steps": list(c.steps), "values": list(c.values)} for c in verdict.curves]
        return dict(finite({
            "outcome": str(verdict.outcome), "score": verdict.score, "recovery": verdict.recovery,
            "tests": {"passed": sum(t.passed for t in verdict.tests), "total": len(verdict.tests)},
            "curves": curves, "detail": verdict.detail, "output": verdict.output[:MAX_OUTPUT],
            "seconds": verdict.seconds, "layer": verdict.layer,
            "changed": sum(changed_lines(original, lease.files).values()),
        }))  # fmt: skip

    @contextlib.contextmanager
    def renewed(self, lease: Lease) -> Iterator[dict[str, str]]:
        """Renew the lease while the block runs."""
        done, progress = threading.Event(), dict[str, str]()

        def renew() -> None:
            while not done.wait(self.queue.lease / 3000):
                self.queue.renew(lease, progress.get("now", ""))

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield progress
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


def environment() -> Mapping[str, str]:
    """One thread a worker."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> None:
    folder, tier = Folder.load(Path(sys.argv[1])), Tier[sys.argv[2]]
    worker = Worker(folder, tier)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, args=(os.getppid(),), daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main()
