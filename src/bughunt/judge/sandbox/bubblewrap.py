"""Bubblewrap: a second fence, made by another program, to hold the first one against.

Each container is started anew, so that a worker costs seconds rather than milliseconds: torch is imported
every time. Inside, the worker puts on S1 besides. As root the whole of it is started by an ordinary user,
or else files that only root may read could be read from within.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from types import TracebackType

from bughunt.errors import MachineError
from bughunt.judge.limits import Limits
from bughunt.judge.sandbox import newroot, privileges, readable
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.zygote import Process, Zygote


class Bubblewrap:
    """Starts workers in containers, `jobs` of them one after another in each."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self.containers: list[Container] = []

    def __enter__(self) -> "Bubblewrap":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def spawn(self, limits: Limits, device: str = "cpu") -> Process:
        """A fresh worker."""
        if device != "cpu":
            raise MachineError("a container has no GPU", "leave --device out")
        self.containers = [one for one in self.containers if not one.is_over]
        container = next((one for one in self.containers if one.left), None)
        if container is None:
            container = Container(self.jobs)
            self.containers.append(container)
        return container.spawn(limits)

    def close(self) -> None:
        """End all containers and what is in them."""
        for container in self.containers:
            container.close()


class Container(Zygote):
    """A zygote inside of bubblewrap, for so many workers."""

    def __init__(self, jobs: int) -> None:
        self.left, self.running, self.is_over = jobs, 0, False
        self.bwrap = shutil.which("bwrap")
        if self.bwrap is None:
            raise MachineError("bwrap is not installed", "install the package bubblewrap")
        super().__init__(tier=Tier.S1, most=Tier.S1)

    def command(self, descriptor: int) -> list[str]:
        job = str(self.folder / "job") if os.geteuid() else newroot.JOB
        nursery = [sys.executable, "-P", "-m", "bughunt.judge.nursery"]
        inside = [
            str(self.bwrap),
            *options(job),
            "--",
            *nursery,
            str(descriptor),
            newroot.JOB,
            str(int(Tier.S1)),
        ]
        if os.geteuid():
            os.mkdir(job)
        place = job if os.geteuid() else str(privileges.FIRST_UID)
        return [sys.executable, "-P", "-m", "bughunt.judge.sandbox.descend", place, *inside]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"TMPDIR": newroot.JOB}

    def spawn(self, limits: Limits, device: str = "cpu") -> Process:
        self.left, self.running = self.left - 1, self.running + 1
        return super().spawn(limits, device)

    def over(self) -> None:
        self.running -= 1
        if not self.left and not self.running:
            self.close()

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            super().close()


def options(job: str) -> Iterator[str]:
    """Everything of its own, the files that the judge's own processes read, and one folder to write to."""
    yield from (
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "bughunt",
        "--cap-drop",
        "ALL",
    )
    seen = set()
    for path in readable.of_the_judge().paths:
        for here, target in newroot.way_to(path):
            if here not in seen:
                seen.add(here)
                yield from (
                    ("--symlink", str(target), str(here)) if target else ("--ro-bind", str(here), str(here))
                )
    yield from ("--proc", "/proc")
    for device in readable.DEVICES:
        yield from ("--dev-bind", device, device)
    yield from ("--bind", job, newroot.JOB, "--remount-ro", "/", "--chdir", newroot.JOB)
