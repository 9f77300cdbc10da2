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


WITH_FACTS = """
from bughunt_mutator import enumerate_mutants, load_operators
from bughunt_mutator.facts import told

for operator in load_operators().values():
    for example in operator.examples if operator.facts else ():
        for mutant in enumerate_mutants(example.before, facts=told(example.before, operator.facts)):
            print(mutant)
"""


def test_mutants_that_need_a_run_do_not_depend_on_the_hash_seed() -> None:
    found = []
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", WITH_FACTS]
        found.append(subprocess.run(command, capture_output=True, env=environment, check=True).stdout)
    assert found[0].count(b"\n") > 20
    assert found[0] == found[1]
