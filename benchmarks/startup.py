"""How long `bughunt` and `bughunt status` take beside importing their terminal libraries, in one run.

    python benchmarks/startup.py [ROUNDS]

Rounds are interleaved, so that a busy machine slows all of them alike; ratios are of medians.
"""

import os
import subprocess
import sys
import tempfile
import time
from statistics import median

COMMANDS = {
    "import click, rich": ["-c", "import click, rich"],
    "bughunt": ["-m", "bughunt"],
    "bughunt status": ["-m", "bughunt", "status"],
}


def seconds(arguments: list[str], folder: str) -> float:
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "BUGHUNT_HOME": os.path.join(folder, "hunt")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - begun


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name, arguments in COMMANDS.items():
                taken[name].append(seconds(arguments, folder))
    middle = {name: median(values[1:]) for name, values in taken.items()}  # the first warms the disk
    base = middle["import click, rich"]
    for name, value in middle.items():
        print(f"{name:20s} {1000 * value:7.1f} ms   {value / base:5.2f}")


if __name__ == "__main__":
    main()
