"""The verdict does not depend on the machine: instruction sets, cores, and repetition."""

import os
import runpy
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bughunt.judge.judge import Case, Judge
from bughunt.judge.zygote import Zygote

VERDICTS = Path(__file__).parents[1] / "verdicts"
REFERENCE = VERDICTS / "reference"
TASK = runpy.run_path(str(REFERENCE / "task.py"))["TASK"]
NAMES = ("written_differently", "other_draws", "broken")
LEVEL = """
import torch

def level():
    return torch.backends.cpu.get_cpu_capability()
"""


class OtherInstructions(Zygote):
    """A zygote whose torch is held to an instruction set."""

    level = "default"

    def environment(self):
        return {**super().environment(), "ATEN_CPU_CAPABILITY": self.level}


class Avx2(OtherInstructions):
    level = "avx2"


@contextmanager
def cores(count):
    """What is started here may use so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def program(name):
    return {"train.py": (VERDICTS / name / "train.py").read_text(encoding="utf-8")}


def verdicts(judge, case):
    found = {name: judge.judge(program(name), case, [11]) for name in NAMES}
    return {name: (one.outcome, one.layer, round(one.score, 1)) for name, one in found.items()}


@pytest.fixture(scope="module")
def here():
    """The case, measured on this machine as it is, and the verdicts that belong to it."""
    with Judge() as judge:
        bare = Case(TASK, program("reference"), REFERENCE / "behaviour.py")
        broken = judge.battery(program("broken"), bare, 1)
        case = replace(
            bare,
            fail_to_pass=[test.name for test in broken if not test.passed],
            pass_to_pass=[test.name for test in broken if test.passed],
            reference_curves=[judge.measure(program("reference"), TASK, seed) for seed in range(8)],
            broken_curves=[judge.measure(program("broken"), TASK, seed) for seed in range(3)],
        )
        return case, verdicts(judge, case)


@pytest.mark.parametrize(("zygote", "level"), [(OtherInstructions, "DEFAULT"), (Avx2, "AVX2")])
def test_older_instructions_change_no_verdict(here, zygote, level):
    case, expected = here
    with Judge(launcher=zygote("cpu", None)) as judge:
        with judge.open({"train.py": LEVEL}, TASK) as asked:
            assert asked.call("level") == level
        assert verdicts(judge, case) == expected


def test_one_core_or_two_change_no_verdict(here):
    case, expected = here
    with cores(1), Judge() as judge:
        assert verdicts(judge, case) == expected


def test_repetition_changes_no_verdict(here):
    case, expected = here
    with Judge() as judge:
        assert verdicts(judge, case) == expected
