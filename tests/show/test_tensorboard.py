"""What TensorBoard reads from the runs is what was measured."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bughunt.bugsets.challenge import Challenge
from bughunt.judge.verdict import Curve
from bughunt.show import tensorboard


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, round(e.value, 4)) for e in events.Scalars(tag)] for tag in tags}


@pytest.fixture
def challenge(tmp_path: Path, make_challenge) -> Challenge:
    make_challenge(tmp_path / "set" / "bh-1")
    return Challenge.load(tmp_path / "set" / "bh-1")


def test_the_band_and_the_broken_program_are_written_once(tmp_path, challenge):
    runs = tmp_path / "runs"
    for _ in range(2):
        tensorboard.write_baseline(runs, challenge)
    names = sorted(path.name for path in (runs / "bh-1").iterdir())
    assert names == ["broken-0", "reference-0", "reference-1"]
    assert all(len(list(path.iterdir())) == 1 for path in (runs / "bh-1").iterdir())
    found = scalars(runs / "bh-1" / "broken-0")
    assert found["measured/held-out loss"] == [(0, 2.0), (50, 2.5), (100, 3.0)]
    assert found["measured/accuracy"] == [(100, 0.1)]


def test_an_attempt_has_loss_metric_gradients_and_updates(tmp_path, challenge):
    curve = Curve(
        seed=11,
        steps=[0, 2, 4],
        values=[2.0, 1.0, float("nan")],
        metrics=[0.1, 0.5, 0.9],
        reported=[1.9, 1.5, 1.0, 0.5],
        gradient_norms=[0.0, 3.0, 2.0],
        update_ratios={"head.weight": [0.0, 0.01, 0.02]},
    )
    (folder,) = tensorboard.write_attempt(tmp_path, challenge, 7, [curve])
    assert folder.name == "attempt-007"
    found = scalars(folder)
    assert found["measured/accuracy"] == [(0, 0.1), (2, 0.5), (4, 0.9)]
    assert found["probe/gradient norm"] == [(0, 0.0), (2, 3.0), (4, 2.0)]
    assert found["update ratio/head.weight"] == [(0, 0.0), (2, 0.01), (4, 0.02)]
    assert found["reported/loss"] == [(1, 1.9), (2, 1.5), (3, 1.0), (4, 0.5)]


def test_each_seed_of_a_submission_has_its_own_run(tmp_path, challenge):
    curves = [Curve(seed, [0, 1], [2.0, 1.0], [0.1, 0.2]) for seed in (11, 12, 13)]
    names = [p.name for p in tensorboard.write_attempt(tmp_path, challenge, 2, curves)]
    assert names == ["attempt-002-1", "attempt-002-2", "attempt-002-3"]
