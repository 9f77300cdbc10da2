"""Judges on a Ray cluster: one process claims for all of them, the database stays queue and truth.

Runs as `python -m bughunt_leaderboard.cluster DIR TIER JUDGES GPUS [ADDRESS]`; GPUS is the share of one that
each judge gets, and without an address Ray is started on this machine. A judge is an actor with a slot of its
own: nothing that Ray holds has to survive. When a judge, its node or this process dies, the lease runs out
and the job is claimed again; Ray itself never tries anything twice.
"""

import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import RayActorError

from bughunt import __version__
from bughunt.bugsets.challenge import Challenge
from bughunt.errors import BughuntError, MachineError
from bughunt.judge.judge import Judge
from bughunt.judge.sandbox.fence import Tier
from bughunt_leaderboard.assignment import Assignment, Said, Tell, judged
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.worker import Worker, obey

READY = 600.0  # seconds in which a cluster has to find a slot for a judge

Parcel = Mapping[str, bytes]  # a challenge's folder


class Seat:
    """A judge on a node of the cluster."""

    def __init__(self, tier: str, device: str) -> None:
        self.judge = Judge(tier=Tier[tier], device=device)
        self.judge.__enter__()
        self.folder = tempfile.TemporaryDirectory(prefix="bughunt-seat-")
        self.unpacked: dict[str, Challenge] = {}

    def ready(self) -> tuple[str, str]:
        """The version here, and how far programs can be fenced in here."""
        trial = [sys.executable, "-P", "-m", "bughunt.judge.sandbox.tier"]
        done = subprocess.run(trial, capture_output=True, text=True, timeout=60, check=False)
        return __version__, json.loads(done.stdout)["tier"] if done.returncode == 0 else ""

    def judged(self, challenge: str, parcel: Parcel, rest: Mapping[str, Any]) -> Said:
        if challenge not in self.unpacked:
            self.unpacked[challenge] = unpacked(Path(self.folder.name) / challenge, parcel)
        return judged(self.judge, Assignment(self.unpacked[challenge], **rest), lambda _progress: None)


def packed(challenge: Challenge) -> Parcel:
    """The files of a challenge's folder."""
    return {path.name: path.read_bytes() for path in sorted(challenge.folder.iterdir()) if path.is_file()}


def unpacked(folder: Path, parcel: Parcel) -> Challenge:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in parcel.items():
        (folder / name).write_bytes(content)
    return Challenge.load(folder)


class RayBench:
    """One judge of the cluster, for as long as the block lasts."""

    def __init__(self, tier: Tier, gpus: float, parcels: dict[str, Any]) -> None:
        self.tier, self.gpus, self.parcels = tier, gpus, parcels

    def __enter__(self) -> Self:
        """Wait for a slot; MachineError where there is none, or where the node is not fit."""
        made: Any = ray.remote(num_cpus=1, num_gpus=self.gpus, max_restarts=0, max_task_retries=0)(Seat)
        self.seat: Any = made.remote(self.tier.name, "cuda" if self.gpus else "cpu")
        try:
            version, tier = ray.get(self.seat.ready.remote(), timeout=READY)
        except ray.exceptions.GetTimeoutError:
            raise MachineError("the cluster has no free slot for a judge", "fewer --workers") from None
        if version != __version__:
            raise MachineError(f"a node has bughunt {version}", f"install {__version__} there too")
        if not tier or (not self.gpus and Tier[tier] < self.tier):
            raise MachineError(
                f"a node fences programs in to {tier or 'nothing'}, {self.tier.name} is asked for",
                "see docs/security.md, or lower it with --tier for people whom you trust",
            )
        return self

    def __exit__(self, *_error: object) -> None:
        ray.kill(self.seat)

    def judged(self, one: Assignment, tell: Tell) -> Said:
        if one.challenge.id not in self.parcels:
            self.parcels[one.challenge.id] = ray.put(packed(one.challenge))
        rest = {"handed_out": dict(one.handed_out), "files": dict(one.files), "seeds": one.seeds}
        answer = self.seat.judged.remote(one.challenge.id, self.parcels[one.challenge.id], rest)
        tell("on the cluster")
        try:
            said: Said = ray.get(answer)
        except RayActorError as error:
            raise MachineError(f"the judge on the cluster ended: {error}", "") from None
        return said


def _connect(address: str, judges: int) -> None:
    """To a cluster, or to one that is started here for so many judges."""
    quiet = logging.ERROR
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=quiet)
        else:
            ray.init(num_cpus=judges, include_dashboard=False, log_to_driver=False, logging_level=quiet)
    except Exception as error:  # Ray raises plain ones too, where a machine is slow
        where = f"no Ray cluster at {address}" if address else "Ray does not start here"
        raise MachineError(f"{where}: {error}", "ray start --head starts one") from None


def main() -> None:
    folder, tier, count, gpus = Folder.load(Path(sys.argv[1])), Tier[sys.argv[2]], *map(float, sys.argv[3:5])
    _connect(sys.argv[5] if len(sys.argv) > 5 else "", int(count))
    bench = partial(RayBench, tier, gpus, {})
    workers = [Worker(folder, bench, f":{number}") for number in range(int(count))]
    failed: list[BaseException] = []

    def stop(*_: object) -> None:
        for one in workers:
            one.stop()

    def run(one: Worker) -> None:
        try:
            one.run()
        except BaseException as error:
            failed.append(error)
            stop()

    obey(stop)
    threads = [threading.Thread(target=run, args=(one,)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ray.shutdown()
    if failed:
        raise failed[0]


if __name__ == "__main__":
    try:
        main()
    except BughuntError as error:
        sys.exit(f"{error.message}\n{error.remedy}")
