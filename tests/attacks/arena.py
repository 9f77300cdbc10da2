"""Where hostile programs meet the judge: what each is judged on, and what counts as winning.

An attack is a file below `cases`: text that is appended to a program that is broken, and that nothing in it
repairs. Its first lines say what it tries, `# expect:` which outcomes it may have (any but a solution,
unless said), `# machine:` the one processor that it is written for, `# judge: fully` that curves of three
seeds are measured, `briefly` that a rehearsal shows all, `hastily` that there is no point in a long wait;
`# file: NAME` begins another file of the same program. `classes.toml` says which kind of attack each one is.

It wins when it is taken for a repair, when it prints `GOT:` because it came by something that it should not
have, when it changes the host, when something of it goes on, and when the judge fails or waits for much
longer than it may.
"""

import os
import platform
import runpy
import shutil
import sys
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from processes import descendants, wait_until

from bughunt.judge.judge import Case, Judge
from bughunt.judge.limits import Limits
from bughunt.judge.sandbox.bubblewrap import Bubblewrap
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.verdict import Outcome, Verdict
from bughunt.judge.zygote import Launcher, Process, Zygote

HERE = Path(__file__).parent
VERDICTS = HERE.parent / "verdicts"
TASK = runpy.run_path(str(VERDICTS / "reference" / "task.py"))["TASK"]
CANARY = "BH-" + "CANARY"
SEEDS = [11, 12, 13]
LIMITS = Limits(cpu_seconds=20, wall_seconds=20, reply_seconds=8, memory_bytes=2 << 30, output_bytes=1 << 16)
HASTY = replace(LIMITS, cpu_seconds=5, wall_seconds=3, reply_seconds=1.5)
PATIENCE = 3 * LIMITS.reply_seconds + 10  # seconds for a verdict, and more where honest programs wait too
ANY = frozenset(Outcome) - {Outcome.SOLVED}
ORDINARY_USER = 61234


@dataclass(frozen=True)
class Attack:
    """One hostile program."""

    name: str
    title: str
    files: Mapping[str, str]
    expected: frozenset[Outcome] = ANY
    ways: frozenset[str] = frozenset()  # to judge it: fully, briefly, hastily


def attacks() -> list[Attack]:
    """All that are written for this processor."""
    found = (read(path) for path in sorted((HERE / "cases").rglob("*.py")))
    return [attack for attack in found if attack is not None]


def read(path: Path) -> Attack | None:
    title, _, text = path.read_text(encoding="utf-8").partition("\n")
    notes, name, files = {}, "train.py", {"train.py": program("broken")["train.py"] + "\n\n"}
    for line in text.splitlines(keepends=True):
        word, _, rest = line.removeprefix("# ").partition(": ")
        if line.startswith("# ") and word in ("expect", "machine", "judge"):
            notes[word] = rest.split()
        elif line.startswith("# file: "):
            name = rest.strip()
            files[name] = ""
        else:
            files[name] += line
    if platform.machine() not in notes.get("machine", [platform.machine()]):
        return None
    expected = frozenset(map(Outcome, notes.get("expect", []))) or ANY
    relative = path.relative_to(HERE / "cases").with_suffix("")
    return Attack(str(relative), title.strip('"'), files, expected, frozenset(notes.get("judge", [])))


def program(name: str) -> dict[str, str]:
    return {"train.py": (VERDICTS / name / "train.py").read_text(encoding="utf-8")}


class AsUser(Zygote):
    """A zygote that an ordinary user has started, who finds the interpreter wherever it lies."""

    def command(self, descriptor: int) -> list[str]:
        nursery = ["-P", "-m", "bughunt.judge.nursery", str(descriptor), "/job", str(int(self.most))]
        to_user = ["-P", "-m", "bughunt.judge.sandbox.descend", str(ORDINARY_USER)]
        return [sys.executable, *to_user, sys.executable, *nursery]


class Witness:
    """A launcher that remembers what all of its workers have said."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.processes = launcher, list[Process]()

    def spawn(self, limits: Limits, device: str = "cpu") -> Process:
        self.processes.append(self.launcher.spawn(limits, device))
        return self.processes[-1]

    def close(self) -> None:
        self.launcher.close()

    def lines(self) -> list[str]:
        """Once all are closed, and then they are forgotten."""
        said = b"\n".join(bytes(process.printed) for process in self.processes)
        self.processes.clear()
        return said.decode("utf-8", "replace").splitlines()


def ways() -> list[str]:
    """How programs can be fenced in here as a competition asks for."""
    as_user = ["S2 as user"] if os.geteuid() == 0 else []
    return ["S2", *as_user, *(["bubblewrap"] if shutil.which("bwrap") else [])]


def make_launcher(way: str) -> Launcher:
    """One of the ways to fence programs in; a single container for all, so that what is left over is seen."""
    if way == "bubblewrap":
        return Bubblewrap(jobs=1_000_000)
    tier = Tier[way[:2]]
    return (AsUser if way.endswith("as user") else Zygote)(tier=tier, most=tier)


class Arena:
    """One way of fencing, ready for attacks."""

    def __init__(self, way: str) -> None:
        self.witness = Witness(make_launcher(way))
        self.judge = Judge(limits=LIMITS, launcher=self.witness)
        self.hasty_judge = Judge(limits=HASTY, launcher=self.witness)
        self.pace = 0.0  # seconds that an honest program takes

    def __enter__(self) -> "Arena":
        self.judge.__enter__()
        self.hasty_judge.__enter__()
        os.environ["BUGHUNT_TEST_SECRET"] = CANARY
        bare = Case(TASK, program("reference"), VERDICTS / "reference" / "behaviour.py")
        tests = self.judge.battery(program("broken"), bare, 1)
        self.case = replace(
            bare,
            fail_to_pass=[test.name for test in tests if not test.passed],
            pass_to_pass=[test.name for test in tests if test.passed],
            reference_curves=[self.judge.measure(program("reference"), TASK, seed) for seed in range(8)],
            broken_curves=[self.judge.measure(program("broken"), TASK, seed) for seed in range(3)],
        )
        self.usual = set(descendants(os.getpid()))
        return self

    def __exit__(self, *error: object) -> None:
        del os.environ["BUGHUNT_TEST_SECRET"]
        self.judge.__exit__(*error)

    def verdict(self, files: Mapping[str, str], ways: Set[str] = frozenset({"fully"})) -> Verdict:
        judge = self.hasty_judge if "hastily" in ways else self.judge
        fully, seeds = "fully" in ways, SEEDS if "fully" in ways else SEEDS[:1]
        return judge.judge(files, self.case, seeds, tests="briefly" not in ways, curves=fully)

    def honest_programs_are_judged_rightly(self) -> bool:
        """A repair is one and the broken program is none: a fence that fails everything holds nothing."""
        right = self.verdict(program("written_differently")), self.verdict(program("broken"))
        self.pace = max(verdict.seconds for verdict in right)
        return [verdict.passed for verdict in right] == [True, False]

    def won(self, attack: Attack) -> list[str]:
        """By what the attack has won; nothing where it has lost."""
        self.witness.processes.clear()
        verdict = self.verdict(attack.files, attack.ways)
        said = self.witness.lines()
        wrong, patience = verdict.outcome not in attack.expected, PATIENCE + 3 * self.pace
        return [
            *([f"verdict {verdict.outcome}: {verdict.detail}"] if wrong else []),
            *([f"score {verdict.score}"] if verdict.score > 59 else []),
            *dict.fromkeys(line for line in said if line.startswith("GOT:")),
            *([f"took {verdict.seconds:.0f} s"] if verdict.seconds > patience else []),
            *traces(),
            *(f"goes on as {pid}" for pid in self.left_over()),
        ]

    def left_over(self) -> set[int]:
        """Workers that have not ended ten seconds later; each is told once."""
        wait_until(lambda: not self.workers(), seconds=10)
        found = self.workers()
        self.usual |= found
        return found

    def workers(self) -> set[int]:
        return set(descendants(os.getpid())) - self.usual


def traces() -> Iterator[str]:
    """What an attack has left on the host."""
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/", os.path.expanduser("~"), "/job"):
        for path in Path(folder).glob("bh_pwn*"):
            yield f"left {path}"
            path.unlink()
