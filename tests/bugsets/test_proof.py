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


@pytest.mark.slow
def test_a_rewrite_that_changes_a_bit_is_found_by_bisection_and_left_out(judge):
    """A variance before a mean of the same tensor: its gradient then sums in another order."""
    resnet = references.load("resnet-mini")
    known: dict[str, str] = {}

    def take(files):
        text = files["train.py"]
        if text not in known:
            known[text] = proof.fingerprint(judge, files, resnet, 0)
        return known[text]

    assert take(swapped(resnet.files)) != take(resnet.files)
    seed = next(s for s in range(40) if _swaps(disguised(resnet, s).files["train.py"]))
    assert take(disguised(resnet, seed).files) != take(resnet.files)
    cover = proof.settle(resnet, (), seed, take)
    assert cover is not None
    assert take(cover.files) == take(resnet.files)
    assert "swapped-statements" not in cover.used
    assert len(cover.used) >= len(disguised(resnet, seed).used) - 2


def disguised(reference, seed):
    return disguise_tree(reference.files, seed, proof.kept(reference.task))


def _swaps(text):
    """Whether the variance of the batch norm comes before its mean."""
    body = text[text.index("class BatchNorm") :]
    variance = min(at for at in (body.find(".var("), body.find("torch.var(")) if at >= 0)
    mean = min(at for at in (body.find(".mean("), body.find("torch.mean(")) if at >= 0)
    return variance < mean


def swapped(files):
    lines = files["train.py"].splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if ".mean(" in line and ".var(" in lines[n + 1])
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    return {**files, "train.py": "".join(lines)}
