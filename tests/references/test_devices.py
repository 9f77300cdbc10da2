"""The first step of a program stays on the device of its model and data.

There need not be a GPU for that: tensors on the device `meta` have no numbers, but most operations that mix
them with tensors made elsewhere fail as they would on a GPU. A program gets as far as the first place that
reads a number; about half get to the end of the step.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bughunt import references

TRAINED = [slug for slug in references.slugs() if references.load(slug).task.trains]
ON_A_DEVICE = [slug for slug in TRAINED if references.load(slug).task.rng == "torch"]
CARELESS = "careless"  # `tiny-gpt` with a mask that is made wherever tensors are made

FIRST_STEPS = """\
import importlib, json, sys, traceback
import torch

torch.set_num_threads(1)


def moved(value):
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, dict):
        return {key: moved(part) for key, part in value.items()}
    return type(value)(map(moved, value)) if isinstance(value, list | tuple) else value


def first_step(folder, task):
    train = importlib.import_module("train")
    cfg = train.Config(**next(iter(task.configurations.values())))
    model = train.build(cfg).to("meta")
    data, rng = moved(task.data(0).train), torch.Generator().manual_seed(0)
    try:
        next(train.train(model, data, cfg, rng))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        return {"said": str(error), "line": [frame.line for frame in frames if folder in frame.filename][-1]}
    return {"said": "", "line": "yield"}


found = {}
for name, (folder, module) in json.load(sys.stdin).items():
    before = set(sys.modules)
    sys.path.insert(0, folder)
    found[name] = first_step(folder, importlib.import_module(module).TASK)
    sys.path.remove(folder)
    for loaded in set(sys.modules) - before:
        if (getattr(sys.modules[loaded], "__file__", None) or "").startswith(folder):
            del sys.modules[loaded]
print(json.dumps(found))
"""


def written(files: Mapping[str, str], folder: Path) -> str:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Where the first step of each program ends, and what was said then."""
    place, asked = tmp_path_factory.mktemp("programs"), {}
    for slug in ON_A_DEVICE:
        module = f"bughunt.references.{slug.replace('-', '_')}.task"
        asked[slug] = written(references.load(slug).files, place / slug), module
    text = references.load("tiny-gpt").files["train.py"]
    broken = {"train.py": text.replace(", device=q.device", "")}
    assert broken["train.py"] != text
    asked[CARELESS] = written(broken, place / CARELESS), asked["tiny-gpt"][1]
    words = [sys.executable, "-W", "ignore", "-c", FIRST_STEPS]
    done = subprocess.run(words, input=json.dumps(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def mixes(end: Mapping[str, str]) -> bool:
    """Whether an operation has met tensors of two devices."""
    return "expected device" in end["said"] or "same device" in end["said"]


@pytest.mark.parametrize("slug", ON_A_DEVICE)
def test_no_operation_of_the_first_step_mixes_devices(ends: dict[str, dict[str, str]], slug: str) -> None:
    assert not mixes(ends[slug]), ends[slug]


def test_many_programs_get_to_the_end_of_the_step(ends: dict[str, dict[str, str]]) -> None:
    through = [slug for slug in ON_A_DEVICE if "yield" in ends[slug]["line"]]
    assert len(through) >= 15, {slug: ends[slug] for slug in ON_A_DEVICE}


def test_a_tensor_made_on_the_wrong_device_is_noticed(ends: dict[str, dict[str, str]]) -> None:
    assert mixes(ends[CARELESS])
