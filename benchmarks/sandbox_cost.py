"""What the fence around a program costs, whether anything leaks, and whether honest programs notice it.

`python benchmarks/sandbox_cost.py [cost|soak|references] [NUMBER]`

cost        CPU seconds of NUMBER jobs (100), in all processes together, fenced (S2) and not (S0)
soak        what NUMBER jobs (1000) in a row under S2 leave of processes, descriptors, files and memory
references  every reference program under S2 and S0, its whole training on NUMBER seeds (3): equal curves

Exit status 1 if a fenced job costs over 60 ms of CPU more, if anything is left over, or if a curve differs.
"""

import os
import sys
import threading
import time
from pathlib import Path

import torch

from bughunt import references
from bughunt.judge.judge import Case, Judge
from bughunt.judge.program import open_program
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.zygote import Zygote

JOB = {"train.py": "import torch\ndef f(): return torch.ones(3).sum()\n"}
MOST_MILLISECONDS = 60.0
MOST_BYTES = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")


def serve(zygote: Zygote, jobs: int) -> None:
    for _ in range(jobs):
        with open_program(zygote, JOB) as program:
            if program.call("f") != 3:
                sys.exit("an honest program was disturbed")


def below(pid: int) -> list[int]:
    """Processes below one, at the moment."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *below(child))]


def cpu_seconds(zygote: Zygote) -> float:
    """What this process, the zygote's and all that they have waited for have used."""
    total = 0
    for pid in (os.getpid(), zygote.process.pid, *below(zygote.process.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / TICKS


def cost(jobs: int) -> bool:
    spent = {}
    for tier in (Tier.S0, Tier.S1, Tier.S2):
        with Zygote(tier=tier, most=tier) as zygote:
            serve(zygote, 5)
            before, begun = cpu_seconds(zygote), time.monotonic()
            serve(zygote, jobs)
            seconds = time.monotonic() - begun
            spent[tier] = 1000 * (cpu_seconds(zygote) - before) / jobs
        print(
            f"{tier.name}  {spent[tier]:6.1f} ms of CPU a job  {1000 * seconds / jobs:6.1f} ms of wall time"
        )
    more = spent[Tier.S2] - spent[Tier.S0]
    print(f"S2 over S0: {more:.1f} ms of CPU a job (at most {MOST_MILLISECONDS:.0f})")
    return more <= MOST_MILLISECONDS


def holdings(zygote: Zygote) -> dict[str, object]:
    """What leaks would show in."""
    pids = (zygote.process.pid, *below(zygote.process.pid))
    return {
        "processes": len(pids),
        "descriptors": [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *pids)],
        "threads": threading.active_count(),
        "files": sorted(path.name for path in zygote.folder.iterdir()),
        "scratch": len(list(zygote.folder.parent.glob("bughunt-*"))),
    }


def memory(zygote: Zygote) -> list[int]:
    """Bytes of its own that each process holds: this one, and the zygote's."""
    pids = (os.getpid(), zygote.process.pid, *below(zygote.process.pid))
    return [int(status(pid).partition("RssAnon:")[2].split()[0]) << 10 for pid in pids]


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def soak(jobs: int) -> bool:
    with Zygote(tier=Tier.S2) as zygote:
        serve(zygote, 50)
        before, held = holdings(zygote), memory(zygote)
        begun = time.monotonic()
        serve(zygote, jobs)
        seconds = time.monotonic() - begun
        time.sleep(1)
        after, holds = holdings(zygote), memory(zygote)
    for name in before:
        print(f"{name:<12s} {before[name]} -> {after[name]}")
    growth = [now - then for then, now in zip(held, holds, strict=True)]
    print(f"memory       {', '.join(f'{size / 1024:+.0f} KiB' for size in growth)}")
    print(f"{jobs} jobs in {seconds:.0f} s")
    return before == after and max(growth) <= MOST_BYTES


def outcome(judge: Judge, one: references.Reference, seed: int) -> str:
    """What a program's run comes to: its curve, or its tests where nothing trains."""
    if one.task.trains:
        return repr(judge.measure(one.files, one.task, seed))
    results = judge.battery(one.files, Case(one.task, one.files, one.test_path), seed)
    return repr([(test.name, test.passed) for test in results])


def undisturbed(seeds: int) -> bool:
    """Whether every honest program does behind the fence what it does without."""
    differ = 0
    slugs = references.slugs()
    fence, free = Zygote(tier=Tier.S2, most=Tier.S2), Zygote(tier=Tier.S0, most=Tier.S0)
    with Judge(launcher=fence) as fenced, Judge(launcher=free) as bare:
        for slug in slugs:
            one = references.load(slug)
            for seed in range(1, seeds + 1):
                if outcome(fenced, one, seed) != outcome(bare, one, seed):
                    print(f"{slug} seed {seed}: another outcome under S2")
                    differ += 1
    print(f"{seeds * len(slugs)} runs of {len(slugs)} references, {differ} differ under S2")
    return not differ


PARTS = {"cost": (cost, 100), "soak": (soak, 1000), "references": (undisturbed, 3)}


def main(words: list[str]) -> int:
    torch.set_num_threads(1)
    names = [word for word in words if word in PARTS] or list(PARTS)
    numbers = [int(word) for word in words if word.isdigit()]
    results = []
    for name in names:
        part, usual = PARTS[name]
        results.append(part(numbers[0] if numbers else usual))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
