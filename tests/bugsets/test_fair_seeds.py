"""No hidden seed is one on which a right program fails a test by bad luck."""

import pytest

from bughunt import references
from bughunt.bugsets.evaluate import Finding
from bughunt.bugsets.generate import fair_seeds
from bughunt.bugsets.verify import unlucky
from bughunt.errors import BughuntError
from bughunt.judge.case import Case
from bughunt.judge.judge import Judge

REFERENCE = references.load("kmeans-pp")


def _seen(jobs, is_unlucky):
    return [Finding(passed=["one"], failed=["other"] if is_unlucky(job.seed) else []) for job in jobs]


def test_seeds_on_which_a_test_fails_are_passed_over():
    every = fair_seeds(REFERENCE, 5, lambda jobs: _seen(jobs, lambda _: False))
    fair = fair_seeds(REFERENCE, 5, lambda jobs: _seen(jobs, lambda seed: seed == every[3]))
    assert len(every) == len(set(every)) == 8
    assert fair[:7] == every[:3] + every[4:]
    assert len(set(fair)) == 8


def test_a_program_that_fails_on_all_seeds_is_named():
    with pytest.raises(BughuntError, match="kmeans-pp fails its own tests"):
        fair_seeds(REFERENCE, 5, lambda jobs: _seen(jobs, lambda _: True))


def test_the_proof_of_a_set_names_the_seed_that_would_refuse_a_repair(tmp_path):
    tests = tmp_path / "test_behaviour.py"
    tests.write_text("def test_luck(program, seed):\n    program.build(seed=seed)\n    assert seed != 7\n")
    case = Case(REFERENCE.task, REFERENCE.files, tests)
    with Judge() as judge:
        assert unlucky(judge, REFERENCE.files, case, [5, 6]) == []
        assert unlucky(judge, REFERENCE.files, case, [6, 7, 8]) == [
            "repaired it fails test_luck on hidden seed 7"
        ]
