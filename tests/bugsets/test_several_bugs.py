"""A challenge with two bugs, really made and really judged, in a cache of its own."""

import pytest

from bughunt.bugsets import verify
from bughunt.bugsets.case import case_of
from bughunt.bugsets.combine import recall
from bughunt.bugsets.generate import generate
from bughunt.judge.judge import Judge
from bughunt.judge.verdict import Outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bugset(tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        return generate("two", 1, 5, ["kmeans-pp"], [], root / "bugs", workers=1, bugs=2)


@pytest.fixture(scope="module")
def challenge(bugset):
    return bugset.challenges()[0]


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


def test_the_head_and_the_brief_say_how_many_there_are(challenge):
    assert challenge.bugs == 2
    assert "2 of them" in challenge.brief()
    sealed = challenge.sealed()
    assert len(sealed.rows) == len(sealed.where) == len(sealed.own_tests) == len(sealed.alone) == 2
    assert len(sealed.hints) == 3


def test_each_bug_has_tests_of_its_own_among_those_that_fail(challenge):
    one, two = map(set, challenge.sealed().own_tests)
    assert one
    assert two
    assert one.isdisjoint(two)
    assert one | two <= set(challenge.sealed().fail_to_pass)


@pytest.mark.parametrize("left", [0, 1])
def test_a_repair_of_one_bug_is_partial_and_counts_for_half(challenge, judge, left):
    sealed = challenge.sealed()
    verdict = judge.judge(dict(sealed.alone[left]), case_of(challenge), sealed.seeds[:1])
    passed = [test.name for test in verdict.tests if test.passed]
    assert verdict.outcome is Outcome.PARTIAL
    assert 0 < verdict.score < 60
    assert recall(sealed.own_tests, passed) == verdict.recall == 0.5
    assert verdict.repaired == [number != left for number in range(2)]


def test_a_repair_of_both_is_solved_and_none_is_not(challenge, judge):
    sealed, case = challenge.sealed(), case_of(challenge)
    broken = judge.judge(challenge.program(), case, sealed.seeds[:1])
    assert (broken.outcome, broken.repaired, broken.recall) == (Outcome.UNFIXED, [False, False], 0.0)
    assert recall(sealed.own_tests, [test.name for test in broken.tests if test.passed]) == 0.0
    mended = judge.judge(dict(sealed.repaired), case, sealed.seeds[:1])
    assert (mended.outcome, mended.repaired, mended.recall) == (Outcome.SOLVED, [True, True], 1.0)


def test_verification_proves_the_disguise_and_the_parts_again(bugset):
    assert [list(report.reasons) for report in verify.verify(bugset)] == [[]]


def test_verification_sees_a_disguise_that_computes_something_else(challenge):
    sealed = challenge.sealed()
    wrong = {
        path: text.replace("0.5", "0.25").replace("1e-", "2e-") for path, text in sealed.alone[0].items()
    }
    with Judge() as judge:
        assert verify.disguise_faults(judge, challenge, sealed) == []
        spoilt = {**vars(sealed), "repaired": wrong}
        found = verify.disguise_faults(judge, challenge, type(sealed)(**spoilt))
    assert found == ["the repaired program does not compute what the reference does"]
