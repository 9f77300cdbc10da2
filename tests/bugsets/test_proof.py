"""Disguises are proved by what programs answer, and what breaks a bit is found and left out."""

import pytest
from bughunt_mutator import disguise_tree

from bughunt import references
from bughunt.bugsets import proof
from bughunt.judge.judge import Judge

KMEANS = references.load("kmeans-pp")


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


def test_the_same_program_has_the_same_fingerprint_and_one_bit_gives_another(judge):
    text = KMEANS.files["train.py"]
    one = proof.fingerprint(judge, KMEANS.files, KMEANS, 1)
    commented = {"train.py": text + "\n# the same\n"}
    assert proof.fingerprint(judge, commented, KMEANS, 1) == one
    assert proof.fingerprint(judge, KMEANS.files, KMEANS, 2) != one
    scaled = {"train.py": text.replace("def predict(", "def _predict(") + SCALED}
    assert proof.fingerprint(judge, scaled, KMEANS, 1) != one


SCALED = """

def predict(model, inputs):
    answer = _predict(model, inputs)
    return answer.astype("float64") if hasattr(answer, "astype") else answer.double()
"""


def test_a_disguise_is_settled_when_nothing_changes(judge):
    cover = proof.settle(KMEANS, (), 3, lambda files: proof.fingerprint(judge, files, KMEANS, 1))
    assert cover is not None
    assert cover.files == disguise_tree(KMEANS.files, 3, proof.kept(KMEANS.task)).files


def test_a_rewrite_that_changes_a_number_is_found_and_left_out():
    """The fingerprint here is any text that mentions nothing of two rewrites' work."""
    ids = ("new-axis", "names")

    def take(files):
        used = [id_ for id_ in ids if disguises[files["train.py"]][id_]]
        return "other" if used else "same"

    class Remembering(dict):
        def __missing__(self, text):
            return {"new-axis": False, "names": False}

    disguises = Remembering()
    original = proof.disguise_tree

    def remembered(*arguments):
        cover = original(*arguments)
        disguises[cover.files["train.py"]] = {id_: bool(cover.used[id_]) for id_ in ids}
        return cover

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proof, "disguise_tree", remembered)
        cover = proof.settle(references.load("tensor-kit"), (), 1, take)
    assert cover is not None
    assert not set(ids) & {id_ for id_, count in cover.used.items() if count}
    assert cover.used


@pytest.mark.slow
def test_a_statement_order_that_changes_the_order_of_gradients_is_left_out(judge):
    """Mean and variance read the same tensor; computed in another order, its gradient sums in another order."""
    resnet = references.load("resnet-mini")
    take = lambda files: proof.fingerprint(judge, files, resnet, 0)  # noqa: E731 - a name for one expression
    assert take(swapped(resnet.files)) != take(resnet.files)


def swapped(files):
    lines = files["train.py"].splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if ".mean(" in line and ".var(" in lines[n + 1])
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    return {**files, "train.py": "".join(lines)}
