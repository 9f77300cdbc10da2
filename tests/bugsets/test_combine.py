"""Several bugs in one program: which ones go together, and how a partial repair is counted."""

import pytest
from bughunt_mutator import Edit, Mutant

from bughunt import references
from bughunt.bugsets import combine
from bughunt.bugsets.combine import Suspect
from bughunt.bugsets.evaluate import Finding
from bughunt.bugsets.proof import corners

KMEANS = references.load("kmeans-pp")
TEXT = KMEANS.files["train.py"]


def suspect(row, line, failed, word="return", scope="f"):
    start = [at for at in range(len(TEXT)) if TEXT.startswith(word, at)][line % 3]
    edit = Edit(start, start + len(word), word, word + " 1 +")
    mutant = Mutant(row, row, row, line, scope, (edit,), path="train.py")
    return Suspect(mutant, "default", Finding(failed=failed, passed=["z"]))


def test_the_tests_of_a_bug_are_those_that_fail_for_no_other():
    group = [suspect("a", 0, ["p", "q"]), suspect("b", 1, ["q", "r"]), suspect("c", 2, ["s"])]
    assert combine.own_tests(group) == [["p"], ["r"], ["s"]]


def test_a_bug_without_a_test_of_its_own_is_left_out():
    one, two = suspect("a", 0, ["p", "q"]), suspect("b", 100, ["q"])
    assert not combine.fit_together(KMEANS, [one, two])
    assert combine.fit_together(KMEANS, [one, suspect("b", 100, ["r"])])


@pytest.mark.parametrize(
    "other",
    [suspect("a", 100, ["r"]), suspect("b", 1, ["r"]), suspect("b", 3, ["r"], scope="g")],
    ids=["the same kind", "two lines on in the same function", "the same text"],
)
def test_bugs_of_one_kind_or_in_one_place_do_not_go_together(other):
    assert not combine.fit_together(KMEANS, [suspect("a", 0, ["p"]), other])


def test_every_group_has_a_fresh_bug_in_it():
    known = [suspect("a", 0, ["p"]), suspect("b", 100, ["q"])]
    fresh = [suspect("c", 200, ["r"])]
    found = {tuple(s.mutant.row for s in group) for group in combine.groups(KMEANS, known, fresh, 2)}
    assert found == {("a", "c"), ("b", "c")}
    assert [len(group) for group in combine.groups(KMEANS, known, fresh, 1)] == [1]


def test_recall_is_the_share_of_bugs_all_of_whose_tests_pass():
    own = [["p", "q"], ["r"]]
    assert combine.recall(own, ["p", "r"]) == 0.5
    assert combine.recall(own, ["p", "q", "r", "s"]) == 1.0
    assert combine.recall(own, ["p", "s"]) == 0.0


def test_the_square_is_proved_with_no_bug_with_each_and_with_all():
    assert corners(0) == [()]
    assert corners(1) == [(), (0,)]
    assert corners(2) == [(), (0,), (1,), (0, 1)]
