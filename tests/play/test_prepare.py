"""The data beside a program come back as they were, and run.py needs nothing but torch and numpy."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bughunt.play.prepare import TEMPLATE, packed

PROGRAM = """\
import torch
from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    steps: int = 3
    rate: float = 0.1


def build(cfg):
    return torch.nn.Linear(2, 1)


def train(model, data, cfg, rng):
    for step in range(cfg.steps):
        yield float(data["x"].sum()) + step * cfg.rate


def predict(model, inputs):
    return model(inputs)
"""


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_template", TEMPLATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nested_values_of_every_kind_come_back(tmp_path: Path, runner) -> None:
    value = {
        "x": torch.arange(6, dtype=torch.int64).reshape(2, 3),
        3: [torch.tensor([True, False]), np.float32([1.5, -2.0])],
        "half": (torch.tensor([1.5, 2.5], dtype=torch.bfloat16), "text", None, 7),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    }
    path = tmp_path / "data.npz"
    path.write_bytes(packed(value, {"config": {"steps": 5}, "rng": "numpy", "steps": 5}))
    found, settings = runner.load(path)
    assert settings == {"config": {"steps": 5}, "rng": "numpy", "steps": 5}
    assert list(found) == ["x", 3, "half", "scalar", "empty"]
    assert torch.equal(found["x"], value["x"])
    assert torch.equal(found[3][0], value[3][0])
    assert found[3][1].dtype == np.float32
    assert isinstance(found["half"], tuple)
    assert found["half"][0].dtype is torch.bfloat16
    assert found["half"][1:] == ("text", None, 7)
    assert found["scalar"].shape == ()
    assert found["empty"].shape == (0, 4)


def test_run_py_trains_alone_and_prints_the_reported_loss(tmp_path: Path) -> None:
    settings = {"config": {"steps": 4, "rate": 0.5}, "rng": "torch", "steps": 4}
    (tmp_path / "data.npz").write_bytes(packed({"x": torch.ones(2)}, settings))
    (tmp_path / "run.py").write_text(TEMPLATE.read_text())
    (tmp_path / "train.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, "-I", str(tmp_path / "run.py")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert losses == [2.0, 2.5, 3.0, 3.5]


def test_run_py_lists_the_functions_of_a_program_that_trains_nothing(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(packed(None, {"config": {}, "rng": "torch", "steps": 0}))
    (tmp_path / "run.py").write_text(TEMPLATE.read_text())
    (tmp_path / "train.py").write_text('def one(x):\n    """The first."""\n\n\ndef two(x):\n    pass\n')
    run = [sys.executable, "-I", "-c", "import runpy; found = runpy.run_path('run.py', run_name='__main__')"]
    done = subprocess.run([*run[:3], run[3] + "; found['one']"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [["one", "The", "first."], ["two"]]


def test_run_py_never_imports_bughunt() -> None:
    assert "bughunt" not in TEMPLATE.read_text()
