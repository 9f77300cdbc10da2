"""One challenge from `next` to a `submit` verdict, first import of torch included: wall seconds.

    python benchmarks/hunt.py [ID]

In a fresh workspace, with real processes: `goto`, `check` on the broken file, `submit` on the repaired one.
The figure to hold is the sum of `next` and `submit`: at most 60 s on two cores.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bughunt.bugsets import library


def main() -> None:
    known = [challenge for bugset in library.sets() for challenge in bugset.challenges()]
    challenge = library.find_challenge(sys.argv[1]) if len(sys.argv) > 1 else known[0]
    with tempfile.TemporaryDirectory() as folder:
        hunt = Path(folder) / "hunt"
        took = {"goto": run(hunt, "goto", challenge.id), "check (broken)": run(hunt, "check")}
        for name, text in challenge.sealed().repaired.items():
            (hunt / challenge.id / name).write_text(text, encoding="utf-8", newline="")
        took["submit (repaired)"] = run(hunt, "submit", expect=0)
    for name, seconds in took.items():
        print(f"{name:20} {seconds:6.1f} s")
    print(f"{'goto + submit':20} {took['goto'] + took['submit (repaired)']:6.1f} s  (at most 60)")


def run(hunt: Path, *words: str, expect: int | None = None) -> float:
    started = time.perf_counter()
    command = [sys.executable, "-m", "bughunt", "--workspace", str(hunt), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if expect is not None and done.returncode != expect:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
