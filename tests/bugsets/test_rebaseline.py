"""Bands measured again: what counts as moved, what is proposed, what is written."""

import dataclasses

import pytest

from bughunt import references
from bughunt.bugsets import rebaseline
from bughunt.bugsets.rebaseline import Baseline
from bughunt.errors import BughuntError
from bughunt.judge.judge import Judge


def _baseline(**changes):
    plain = {"slug": "x", "metrics": [0.8, 0.82, 0.84], "band": (0.7, 0.9), "noted": (0.8, 0.84)}
    return Baseline(**{**plain, **changes})


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, False),
        ({"noted": (0.81, 0.83)}, False),
        ({"noted": (0.7, 0.84)}, True),
        ({"noted": None}, True),
        ({"band": (0.81, 0.9)}, True),
        ({"metrics": [0.8, float("nan"), 0.84]}, True),
    ],
)
def test_what_leaves_its_band_or_its_note_has_moved(changes, moved):
    assert _baseline(**changes).moved is moved


def test_the_proposed_band_leaves_room_on_both_sides():
    low, high = _baseline().proposed
    assert low == pytest.approx(0.76)
    assert high == pytest.approx(0.88)
    assert _baseline(metrics=[0.9, 1.0]).proposed[1] == 1.0
    assert _baseline(metrics=[9.0, 11.0]).proposed[1] > 12


def test_the_band_is_written_into_the_task(tmp_path, monkeypatch):
    reference = dataclasses.replace(references.load("numpy-cnn"), folder=tmp_path)
    monkeypatch.setattr(references, "load", lambda _: reference)
    path = tmp_path / "task.py"
    path.write_text("TASK = Task(\n    band=(0.1, 0.2),  # seeds 0-9: 0.1 to 0.2\n    steps=3,\n)\n")
    assert rebaseline.write(_baseline()) == path
    changed = "    band=(0.76, 0.88),  # seeds 0-9: 0.800 to 0.840, standard deviation 0.016"
    assert path.read_text().splitlines() == ["TASK = Task(", changed, "    steps=3,", ")"]
    path.write_text("band = compute()\n")
    with pytest.raises(BughuntError, match="band"):
        rebaseline.write(_baseline())


def test_a_program_of_this_machine_is_where_its_task_says():
    with Judge() as judge:
        found = rebaseline.rebaseline(judge, "knn-kdtree")
        assert found is None
        found = rebaseline.rebaseline(judge, "linear-models")
    assert found.noted is not None
    assert len(found.metrics) == 10
    assert not found.moved
