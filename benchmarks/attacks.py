"""Every hostile program of the tests against every tier: what came of it, and how long it took.

`python benchmarks/attacks.py [TIER...] [--only WORD]` prints a table of case, tier, wall seconds and what was
won, if anything. Tiers are S0, S1, S2, "S2 as user" and bubblewrap; competitions may ask for the last three,
and the exit status is 1 if a case wins there. S0 and S1 are a report: what they lose is what they lack. Root
becomes an ordinary user for them, since a program that nothing holds would harm this machine.
"""

import argparse
import os
import stat
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "attacks"))

from arena import ORDINARY_USER, Arena, attacks, ways

from bughunt.judge.sandbox import kernel, privileges

WEAK = ("S0", "S1")


def become_an_ordinary_user() -> None:
    """Leave root behind, the interpreter still readable though it may lie below a folder of root's."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    place = Path(sys.base_prefix)
    closed = next((path for path in reversed(place.parents) if not path.stat().st_mode & stat.S_IXOTH), None)
    if closed is not None:
        held = os.open(place, os.O_PATH)
        kernel.mount("tmpfs", str(closed), "tmpfs", 0, "mode=755")
        place.mkdir(parents=True)
        kernel.mount(f"/proc/self/fd/{held}", str(place), None, kernel.MS_BIND)
        os.close(held)
    privileges.become(ORDINARY_USER)
    os.environ["HOME"] = "/tmp"
    os.execv(sys.executable, [sys.executable, *sys.argv])  # after which its /proc is its own


def report(way: str, word: str) -> int:
    """Print the rows of one tier; how many cases won."""
    won = 0
    with Arena(way) as arena:
        control(arena, way)
        for attack in attacks():
            if word not in attack.name:
                continue
            begun = time.monotonic()
            gains = arena.won(attack)
            won += bool(gains)
            told = "WON " + "; ".join(gains)[:120] if gains else "lost"
            print(f"{attack.name:<40s} {way:<11s} {time.monotonic() - begun:6.1f} s  {told}", flush=True)
        control(arena, way)
    print(f"{won} won under {way}", flush=True)
    return won


def control(arena: Arena, way: str) -> None:
    right = arena.honest_programs_are_judged_rightly()
    print(f"{'honest programs':<40s} {way:<11s} {'judged rightly' if right else 'DISTURBED'}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("ways", nargs="*", default=[*ways(), *WEAK])
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    won = sum(report(way, given.only) for way in given.ways if way not in WEAK)
    weak = [way for way in given.ways if way in WEAK]
    if weak and os.geteuid() == 0:
        sys.argv[1:] = [*weak, *(["--only", given.only] if given.only else [])]
        child = os.fork()
        if child == 0:
            become_an_ordinary_user()
        os.waitpid(child, 0)
    else:
        for way in weak:
            report(way, given.only)
    return won > 0


if __name__ == "__main__":
    sys.exit(main())
