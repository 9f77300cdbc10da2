"""After joining a competition: does this machine fit the host's, and does a file really get a verdict?"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bughunt import __version__
from bughunt.bugsets.challenge import BugSet
from bughunt.errors import BughuntError
from bughunt.play.remote import Remote

CLOCK_SECONDS = 5.0  # difference of two clocks from which a person should know
PATIENCE = 180.0  # seconds in which a judge should have taken the practice file
LOOK = 1.0


@dataclass(frozen=True)
class Check:
    """One line of the doctor's: what was found, and what to do where it is not as it should be."""

    name: str
    found: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        return not self.remedy


def checks(remote: Remote, challenges: Path) -> Iterator[Check]:
    """The versions of both sides, the set, the sandbox, the clock."""
    before = time.time()
    server = remote.ask("server")
    middle = (before + time.time()) / 2
    yield _same("bughunt", __version__, server["bughunt"], "git checkout v{0} and install it again")
    yield _same("torch", _torch(), server["torch"].partition("+")[0], "python -m pip install torch=={0}")
    yield _set(challenges)
    yield _sandbox()
    yield _clock(middle - server["now"] / 1000)


def practice(
    remote: Remote, waiting: Callable[[str], None] = lambda _state: None, patience: float = PATIENCE
) -> Check:
    """Send the warm-up through the host's queue and wait for its verdict; it never counts."""
    begun = time.monotonic()
    warm_up = remote.ask("warm-up")
    number = remote.ask("submissions", warm_up)["submission"]
    while True:
        one = remote.ask(f"submissions/{number}")
        if one["outcome"]:
            return _judged(one, time.monotonic() - begun)
        late = time.monotonic() - begun > patience
        if late and one["state"] == "waiting" and one["before"]:
            return Check("practice", f"taken, {one['before']} before it: the host is busy, all is well")
        if late:
            return Check(
                "practice", f"taken, and no verdict in {patience:.0f} s",
                "tell the host that no judge answers; what you submit is kept meanwhile",
            )  # fmt: skip
        waiting(one["progress"] or f"{one['state']}, {one['before']} before it")
        time.sleep(min(LOOK, patience))


def _judged(one: dict[str, Any], seconds: float) -> Check:
    if one["outcome"] == "INFRA":
        detail = ((one["verdict"] or {}).get("detail") or "no reason given").splitlines()[0]
        return Check("practice", f"the host's judge failed: {detail}", "tell the host this line")
    return Check("practice", f"sent, judged and answered in {seconds:.0f} s")


def _same(name: str, mine: str, theirs: str, remedy: str) -> Check:
    if mine == theirs:
        return Check(name, mine)
    return Check(name, f"{mine}, the host has {theirs}", remedy.format(theirs))


def _torch() -> str:
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return "none"


def _set(challenges: Path) -> Check:
    try:
        found = [len(BugSet.load(path.parent).challenges()) for path in challenges.glob("*/set.toml")]
    except BughuntError as error:
        return Check("set", error.message, error.remedy)
    return Check("set", f"{sum(found)} challenges" if sum(found) else "the round has not begun")


def _sandbox() -> Check:
    """For what is judged here, in practice sets; the host has a fence of its own."""
    trial = [sys.executable, "-P", "-m", "bughunt.judge.sandbox.tier"]
    done = subprocess.run(trial, capture_output=True, text=True, timeout=60, check=False)
    return Check("sandbox", json.loads(done.stdout)["tier"] if done.returncode == 0 else "none here")


def _clock(ahead: float) -> Check:
    """How far this machine's clock is ahead, in seconds."""
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the host's"
    remedy = "the host's clock decides: set yours, or look at the board for the time"
    return Check("clock", found, "" if abs(ahead) <= CLOCK_SECONDS else remedy)
