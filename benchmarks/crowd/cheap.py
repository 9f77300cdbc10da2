"""A competition whose judgements are cheap: the server, the queue and the workers are the real ones.

`python -m crowd.cheap host DIR PORT WORKERS` and `python -m crowd.cheap work DIR`. A judgement is a process
that sleeps for a moment; a program's first line says what it is worth.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bughunt_leaderboard.assignment import Assignment, Said, Tell
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.host import serve
from bughunt_leaderboard.limits import Limits
from bughunt_leaderboard.worker import Worker, obey

PLENTY = Limits(sends_address=1_000_000, sends_token=1_000_000)
JUDGEMENT = "sleep 0.15; head -n 1 | cut -c 3-"


class CheapBench:
    """Has a process of its own say the verdict, so that there is one to kill."""

    def judged(self, one: Assignment, tell: Tell) -> Said:
        tell("asking")
        program = one.files["train.py"]
        said = subprocess.run(
            ["sh", "-c", JUDGEMENT], input=program, text=True, capture_output=True, check=False
        )
        if said.returncode or not said.stdout.strip():
            return {"outcome": "INFRA", "detail": f"the judgement ended with {said.returncode}"}
        return {"outcome": said.stdout.strip(), "score": 0.0, "changed": 1}


@contextlib.contextmanager
def bench() -> Iterator[CheapBench]:
    yield CheapBench()


def main(what: str, folder: Folder, *numbers: int) -> None:
    if what == "work":
        worker = Worker(folder, bench)
        obey(worker.stop)
        worker.run()
    else:
        port, workers = numbers
        command = [sys.executable, "-m", "crowd.cheap", "work", str(folder.path)]
        serve(folder, "127.0.0.1", port, [command] * workers, PLENTY)


if __name__ == "__main__":
    main(sys.argv[1], Folder.load(Path(sys.argv[2])), *map(int, sys.argv[3:]))
