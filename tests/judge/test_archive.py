"""What is kept of a reference: whole, of this machine, and sung by the canary before it is believed."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bughunt.judge import archive
from bughunt.judge.archive import Archive
from bughunt.judge.differential import yardstick
from bughunt.judge.judge import Case, Judge
from bughunt.judge.keeper import Keeper
from bughunt.judge.program import open_program
from bughunt.judge.verdict import Outcome
from bughunt.judge.zygote import Zygote

REFERENCE = Path(__file__).parents[1] / "verdicts" / "reference"
TASK = runpy.run_path(str(REFERENCE / "task.py"))["TASK"]
TEXT = (REFERENCE / "train.py").read_text(encoding="utf-8")
FILES = {"train.py": TEXT}
VALUE = {"losses": [0.1, float("nan")], "weights": {"a": np.arange(6.0).reshape(2, 3)}, 3: torch.ones(2)}


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


@pytest.fixture
def keeper(zygote, tmp_path, monkeypatch):
    """A keeper over an archive of its own, as a new process would make it; it counts what it measures."""
    measured = []

    def counted(*args):
        measured.append(args[2:])
        return yardstick(*args)

    monkeypatch.setattr("bughunt.judge.keeper.yardstick", counted)

    def opened(files, task, device):
        return open_program(zygote, files, device=device, rng=task.rng)

    def made():
        return Keeper(opened, Archive(tmp_path)), measured

    return made


def entry(folder):
    (path,) = (path for path in folder.iterdir() if not path.name.startswith("."))
    return path


def test_an_entry_comes_back_as_it_was(tmp_path):
    Archive(tmp_path).put("key", VALUE)
    found = Archive(tmp_path).get("key")
    assert np.array_equal(found["weights"]["a"], VALUE["weights"]["a"])
    assert found["weights"]["a"].dtype == np.float64
    assert np.array_equal(found["losses"], VALUE["losses"], equal_nan=True)
    assert torch.equal(found[3], VALUE[3])


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:40] + b"x" + b[41:], lambda _: b""])
def test_a_damaged_entry_is_none(tmp_path, damage):
    Archive(tmp_path).put("key", VALUE)
    path = tmp_path / "key"
    path.write_bytes(damage(path.read_bytes()))
    assert Archive(tmp_path).get("key") is None


def test_the_least_used_entries_make_room(tmp_path):
    small = Archive(tmp_path, most=2500)
    for name in ("one", "two", "three"):
        small.put(name, b"x" * 1000)
    assert [small.get(name) is not None for name in ("one", "two", "three")] == [False, True, True]


def test_what_cannot_be_kept_does_no_harm(tmp_path):
    Archive(tmp_path).put("key", object())
    (tmp_path / "file").write_text("")
    Archive(tmp_path / "file").put("key", 1)
    assert Archive(tmp_path / "file").get("key") is None


def test_another_program_task_seed_or_machine_is_another_entry(monkeypatch):
    def keys():
        return [
            archive.key("yardstick", FILES, TASK, "cpu", 1),
            archive.key("yardstick", {"train.py": TEXT + "\n"}, TASK, "cpu", 1),
            archive.key("yardstick", FILES, replace(TASK, pinned_steps=3), "cpu", 1),
            archive.key("yardstick", FILES, TASK, "cpu", 2),
        ]

    here = keys()
    assert len(set(here)) == 4
    assert here == keys()
    for changed in (
        ("torch.__version__", "9.9"),
        ("bughunt.judge.archive._processor", lambda: ["model name: another"]),
    ):
        archive.machine.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(*changed)
            assert not set(here) & set(keys())
    archive.machine.cache_clear()
    assert keys() == here


def test_a_second_process_measures_nothing_anew(keeper):
    (first, measured), (second, _) = keeper(), keeper()
    ours, again = (one.yardstick(FILES, TASK, 7, "default", "cpu") for one in (first, second))
    assert len(measured) == 1
    assert again.trace.losses == ours.trace.losses
    for name, value in ours.trace.gradients[-1].items():
        assert np.array_equal(again.trace.gradients[-1][name], value)
    assert all(torch.equal(again.pinned.weights[name], value) for name, value in ours.pinned.weights.items())


def test_an_entry_that_the_canary_does_not_sing_is_measured_anew(keeper, tmp_path):
    (first, measured), (second, _), (third, _) = keeper(), keeper(), keeper()
    ours = first.yardstick(FILES, TASK, 7, "default", "cpu")
    path = entry(tmp_path)
    value = Archive(tmp_path).get(path.name)
    value["trace"]["losses"][0] *= 1.01
    Archive(tmp_path).put(path.name, value)
    assert second.yardstick(FILES, TASK, 7, "default", "cpu").trace.losses == ours.trace.losses
    assert len(measured) == 2
    third.yardstick(FILES, TASK, 7, "default", "cpu")
    assert len(measured) == 2  # and put right


def test_curves_that_were_brought_are_used_where_they_begin_alike(tmp_path):
    with Judge(archive=Archive(tmp_path)) as judge:
        curves = [judge.measure(FILES, TASK, seed) for seed in range(4)]
        case = Case(TASK, FILES, REFERENCE / "behaviour.py", reference_curves=curves)
        keeper = Keeper(judge.open, Archive(tmp_path))
        assert keeper.curves(case, "cpu") is curves
        elsewhere = [replace(curve, values=[2 * value for value in curve.values]) for curve in curves]
        anew = keeper.curves(replace(case, reference_curves=elsewhere), "cpu")
        assert [curve.values for curve in anew] == [curve.values for curve in curves]
        assert judge.judge(FILES, replace(case, reference_curves=elsewhere), [11]).outcome is Outcome.SOLVED
    with Judge(archive=Archive(tmp_path)) as later:
        again = Keeper(later.open, Archive(tmp_path)).curves(replace(case, reference_curves=elsewhere), "cpu")
        assert [curve.values for curve in again] == [curve.values for curve in curves]
        assert not any(curve.reported for curve in again)  # they come from the archive
