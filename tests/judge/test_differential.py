"""Candidate and reference side by side, on a small regression and on a dict of arrays."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bughunt.judge.differential import distance, pinned_differential, yardstick
from bughunt.judge.mapping import map_names, mappings
from bughunt.judge.moments import equal_clouds, equal_moments
from bughunt.judge.pinning import pin
from bughunt.judge.program import open_program
from bughunt.judge.zygote import Zygote
from bughunt.task import Data, Measurement

VERDICTS = Path(__file__).parents[1] / "verdicts"
TASK = runpy.run_path(str(VERDICTS / "reference" / "task.py"))["TASK"]
TEXT = (VERDICTS / "reference" / "train.py").read_text()

ARRAYS = """
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Config:
    steps: int = 12
    lr: float = 0.1

def build(cfg):
    return {"weight": np.random.randn(3), "bias": np.zeros(1)}

def train(model, data, cfg, rng):
    x, y = data
    for _ in range(cfg.steps):
        rows = rng.integers(0, len(x), 16)
        error = x[rows] @ model["weight"] + model["bias"] - y[rows]
        model["weight"] -= cfg.lr * x[rows].T @ error / 16
        model["bias"] -= cfg.lr * error.mean()
        yield float((error**2).mean())

def predict(model, inputs):
    return inputs @ model["weight"] + model["bias"]
"""


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


def beside_a_yardstick(candidate, reference, task, seed):
    return pinned_differential(candidate, yardstick(reference, task, seed), task, seed)


def compare(zygote, candidate, reference=TEXT, task=TASK, how=beside_a_yardstick):
    with (
        open_program(zygote, {"train.py": reference}, rng=task.rng) as ours,
        open_program(zygote, {"train.py": candidate}, rng=task.rng) as yours,
    ):
        return how(yours, ours, task, 7)


def changed(old, new):
    assert old in TEXT
    return TEXT.replace(old, new)


def case(name):
    return (VERDICTS / name / "train.py").read_text()


def test_the_reference_is_equal_to_itself(zygote):
    found = compare(zygote, TEXT)
    assert (found.passed, found.deviation) == (True, 0.0)


@pytest.mark.parametrize("name", ["written_differently", "renamed_parameters"])
def test_a_repair_written_differently_is_equal(zygote, name):
    found = compare(zygote, case(name))
    assert found.passed
    assert found.deviation < 1e-5


@pytest.mark.parametrize(
    ("old", "new", "step", "what"),
    [
        ("        optimizer.zero_grad()\n", "", 2, "gradient of linear"),
        ("lr=cfg.lr", "lr=cfg.lr * 1.1", 2, "loss"),
        ("yield loss.item()", "yield 0.5", 1, "loss"),
        (".mean()\n", ".sum()\n", 1, "loss"),
        ("model.eval()", "model.train()", 0, "prediction at the pinned weights"),
        ("linear = nn.Linear(4, 1)", "linear = nn.Linear(4, 1, bias=False)", 0, "number of weights"),
        (
            "linear = nn.Linear(4, 1)",
            "linear = nn.Linear(4, 1)\n        nn.init.zeros_(self.linear.weight)",
            0,
            "first values of linear.weight",
        ),
        ("        model.train()\n        rows", "        rows", 1, "loss"),
        ("range(cfg.steps)", "range(4)", 5, "number of updates"),
    ],
    ids=[
        "gradients add up",
        "learning rate",
        "made-up loss",
        "sum for mean",
        "dropout in predict",
        "no bias",
        "zero start",
        "stays in eval mode",
        "stops early",
    ],
)
def test_a_bug_shows_at_its_step(zygote, old, new, step, what):
    found = compare(zygote, changed(old, new))
    assert not found.passed
    assert found.first_step == step
    assert what in found.what


def test_a_constant_buffer_stays_the_candidates_own(zygote):
    scaled = changed(
        "        self.linear = nn.Linear(4, 1)\n",
        '        self.linear = nn.Linear(4, 1)\n        self.register_buffer("scale", torch.tensor(1.0))\n',
    ).replace("self.linear(self.drop(x))", "self.linear(self.drop(x) * self.scale)")
    wrong = scaled.replace("torch.tensor(1.0)", "torch.tensor(1.5)")
    assert compare(zygote, scaled, scaled).passed
    assert not compare(zygote, wrong, scaled).passed


def test_running_statistics_are_compared(zygote):
    normed = changed("self.drop = nn.Dropout(drop)", "self.drop = nn.BatchNorm1d(4)")
    other = normed.replace("BatchNorm1d(4)", "BatchNorm1d(4, momentum=0.2)")
    assert compare(zygote, normed, normed).passed
    found = compare(zygote, other, normed)
    assert not found.passed
    assert found.what.startswith("prediction after")


def test_arrays_are_compared_themselves(zygote):
    def data(seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(80, 3))
        return Data((x, x @ [1.0, 2.0, 3.0]), x[:9])

    def measure(program, model, held_out):
        return Measurement(float(np.square(program.predict(model, held_out)).mean()), 0.0)

    task = replace(TASK, data=data, measure=measure, steps=12, rng="numpy")
    assert compare(zygote, ARRAYS, ARRAYS, task).passed
    other = ARRAYS.replace('        model["bias"] -= cfg.lr *', '        model["bias"] -= 0.2 *')
    assert not compare(zygote, other, ARRAYS, task).passed


@pytest.mark.parametrize(
    ("first", "symmetric"),
    [("np.eye(3)", True), ("np.tile(np.eye(3), (4, 1, 1))", True), ("np.zeros((3, 3))", False)],
)
def test_a_pinned_covariance_stays_its_own_transpose(zygote, first, symmetric):
    text = ARRAYS.replace('"bias": np.zeros(1)', f'"bias": np.zeros(1), "spread": {first}')
    with open_program(zygote, {"train.py": text}, rng="numpy") as program:
        spread = pin(program, replace(TASK, rng="numpy"), 7, "default").weights["spread"]
    assert np.array_equal(spread, np.swapaxes(spread, -1, -2)) == symmetric
    assert np.ptp(spread) > 0


def test_moments_accept_other_draws_and_see_another_distribution(zygote):
    assert not compare(zygote, case("other_draws")).passed
    assert compare(zygote, case("other_draws"), how=equal_moments)
    assert not compare(zygote, changed("nn.Dropout(drop)", "nn.Dropout(4 * drop)"), how=equal_moments)
    gradients_add_up = case("other_draws").replace("        optimizer.zero_grad()\n", "")
    assert not compare(zygote, gradients_add_up, how=equal_moments)


def test_moments_accept_batches_that_are_come_to_in_another_way(zygote):
    drawn = "rows = torch.randint(len(inputs), (cfg.batch,), generator=rng)"
    shuffled = changed(drawn, "rows = torch.rand(len(inputs), generator=rng).argsort()[: cfg.batch]")
    without = TEXT.replace(drawn, "rows = torch.randperm(len(inputs), generator=rng)[: cfg.batch]")
    assert not compare(zygote, shuffled, without).passed
    assert compare(zygote, shuffled, without, how=equal_moments)
    wrongs = {
        "sorted rows": shuffled.replace("torch.rand(len(inputs), generator=rng)", "inputs.sum(1)"),
        "sum for mean": shuffled.replace(".mean()", ".sum()"),
        "less noise": shuffled.replace("nn.Dropout(drop)", "nn.Dropout(0.0)"),
        "gradients add up": shuffled.replace("        optimizer.zero_grad()\n", ""),
        "another rate": shuffled.replace("lr=cfg.lr", "lr=1.1 * cfg.lr"),
    }
    assert [name for name, text in wrongs.items() if compare(zygote, text, without, how=equal_moments)] == []


def test_clouds_are_told_apart_by_mean_and_by_spread():
    rng = np.random.default_rng(0)
    cloud, same = rng.normal(1.0, 0.5, (24, 50)), rng.normal(1.0, 0.5, (24, 50))
    assert equal_clouds(cloud, same, 1e-3)
    assert not equal_clouds(cloud + 0.5, same, 1e-3)
    assert not equal_clouds(1 + 2 * (cloud - 1), same, 1e-3)
    assert equal_clouds(np.ones((24, 3)), np.ones((24, 3)), 1e-3)
    assert not equal_clouds(np.ones((24, 3)), np.full((24, 3), 1.01), 1e-3)
    assert not equal_clouds(np.full((24, 3), np.nan), np.ones((24, 3)), 1e-3)


@pytest.mark.parametrize("law", ["normal", "standard_cauchy", "exponential"])
def test_equal_laws_differ_as_rarely_as_the_level_says(law):
    """Whatever the law of the noise, heavy tails too: of 200 pairs at 5 % twenty differ at most."""
    rng = np.random.default_rng(1)
    draws = getattr(rng, law)(size=(200, 2, 16, 3))
    differing = sum(not equal_clouds(one, other, 0.025) for one, other in draws)
    assert 1 <= differing <= 20


def test_names_map_by_name_then_by_order_and_shape():
    def shapes(**sizes):
        return {name: torch.zeros(size) for name, size in sizes.items()}

    ours = shapes(a=(2, 3), b=(2, 3), c=4)
    assert map_names(ours, ours, ours) == {"a": "a", "b": "b", "c": "c"}
    moved = shapes(z=4, x=(2, 3), y=(2, 3))
    assert map_names(ours, moved, ours) == {"z": "c", "x": "a", "y": "b"}
    assert map_names(ours, shapes(b=(2, 3), x=(2, 3), c=4), ours) == {"b": "b", "x": "a", "c": "c"}
    assert map_names(ours, shapes(a=(2, 3), c=4), ours) is None
    assert map_names(ours, shapes(a=(3, 2), b=(2, 3), c=4), ours) is None
    tied = shapes(a=(2, 3))
    assert map_names(tied, shapes(a=(2, 3), b=(2, 3)), ours) == {"a": "a", "b": "b"}


def test_what_stands_in_one_module_is_mapped_together():
    def block(name, inputs, *order):
        sizes = {"linear": (5, inputs), "norm": (5,)}
        parts = [(part, kind) for part in order for kind in ("weight", "bias")]
        return {f"{name}.{p}.{k}": torch.zeros(sizes[p] if k == "weight" else 5) for p, k in parts}

    ours = block("blocks.0", 7, "linear", "norm") | block("blocks.1", 5, "linear", "norm")
    theirs = block("second", 5, "norm", "linear") | block("first", 7, "norm", "linear")
    expected = {name: name.replace("second", "blocks.1").replace("first", "blocks.0") for name in theirs}
    assert expected in mappings(ours, theirs, ours)


def test_a_distance_between_answers_is_relative_and_strict_about_their_kind():
    ones = torch.ones(3)
    assert distance(ones * 1.1, ones) == pytest.approx(0.05, abs=1e-6)
    assert distance([1, {"k": "a"}], [1, {"k": "a"}]) == 0
    for other in (torch.ones(4), "three", None, [1.0, 1.0, 1.0], torch.full((3,), math.nan)):
        assert math.isinf(distance(other, ones))
    assert distance(torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0])) == 0
    assert math.isinf(distance({"k": "b"}, {"k": "a"}))


@pytest.mark.parametrize("other", [0, 1.5, -2, math.nan, math.inf, -math.inf, True, None, "1", [1]])
def test_each_number_of_a_list_is_held_against_its_own_size(other):
    ours = [1000, 0.5, math.nan, math.inf, 3]
    for place in range(5):
        yours = [*ours[:place], other, *ours[place + 1 :]]
        assert distance(yours, ours) == max(map(distance, yours, ours))
    assert distance([1001, 0.0], [1000, 1.0]) == 0.5
    assert distance([], []) == 0
    assert math.isinf(distance([1, 2], [1, 2, 3]))


def test_a_wider_model_is_another_model_and_a_split_one_is_not(zygote):
    wider = TEXT.replace("nn.Linear(4, 1)", "nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))")
    assert wider != TEXT
    found = compare(zygote, wider)
    assert (found.comparable, found.passed, found.what) == (True, False, "number of weights")
    split = (VERDICTS / "split_layer" / "train.py").read_text()
    assert not compare(zygote, split).comparable
