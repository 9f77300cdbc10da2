"""The same text gives the same mutants, whatever the interpreter's hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REFERENCES = Path(__file__).parents[2] / "src" / "bughunt" / "references"
LIST = """
import sys
from pathlib import Path
from bughunt_mutator import enumerate_mutants

for path in sorted(Path(sys.argv[1]).glob("*/train.py")):
    for mutant in enumerate_mutants(path.read_text(encoding="utf-8")):
        print(path.parent.name, mutant)
"""


def listing(hash_seed: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", LIST, str(REFERENCES)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": hash_seed})


def test_mutants_do_not_depend_on_the_hash_seed() -> None:
    one, other = listing("1"), listing("4242")
    first, second = one.communicate()[0], other.communicate()[0]
    assert one.returncode == other.returncode == 0
    assert first.count(b"\n") > 1000
    assert first == second
