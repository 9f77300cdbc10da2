"""Programs of several files: what one file exports keeps its name, and a mutant knows its file."""

from __future__ import annotations

import pytest
from bughunt_mutator import disguise_tree, enumerate_mutants, enumerate_tree, mutated

MODEL = """\
import torch
from torch import nn


def scaled(weights, factor):
    shrunk = weights * factor
    return shrunk


def build(cfg):
    layer = nn.Linear(3, 1)
    layer.weight.data = scaled(layer.weight.data, 0.5)
    return layer
"""
TRAIN = """\
import torch
from model import build, scaled


def train(model, data, cfg, rng):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in data:
        optimizer.zero_grad()
        loss = scaled(model(batch), 2.0).mean()
        loss.backward()
        optimizer.step()
        yield loss.item()
"""
TREE = {"model.py": MODEL, "train.py": TRAIN}


def losses(files: dict[str, str]) -> list[float]:
    """What the program reports, from its texts alone."""
    import sys
    import types

    import torch

    torch.manual_seed(0)
    model = types.ModuleType("model")
    exec(files["model.py"], model.__dict__)
    sys.modules["model"] = model
    try:
        train: dict[str, object] = {}
        exec(files["train.py"], train)
    finally:
        del sys.modules["model"]
    data = list(torch.randn(4, 5, 3))
    return list(train["train"](model.build(None), data, None, None))  # type: ignore[operator]


def test_every_mutant_of_every_file_is_listed_with_its_file() -> None:
    found = enumerate_tree(TREE)
    alone = {path: len(enumerate_mutants(text)) for path, text in TREE.items()}
    assert {path: sum(m.path == path for m in found) for path in TREE} == alone
    assert len({m.key for m in found}) == len(found)


def test_a_mutant_changes_its_own_file_only() -> None:
    for mutant in enumerate_tree(TREE):
        broken = mutated(TREE, mutant)
        assert [path for path in TREE if broken[path] != TREE[path]] == [mutant.path]


@pytest.mark.parametrize("seed", range(4))
def test_the_disguise_keeps_what_crosses_files_and_what_is_computed(seed: int) -> None:
    cover = disguise_tree(TREE, seed, keep=frozenset({"train"}))
    assert "def scaled(" in cover.files["model.py"]
    assert "def build(" in cover.files["model.py"]
    assert cover.files["model.py"] != MODEL
    assert cover.files["train.py"] != TRAIN
    assert losses(cover.files) == losses(TREE)


def test_the_disguised_mutant_computes_what_the_plain_one_does() -> None:
    assert len(enumerate_tree(TREE, only={"zero-grad-missing", "step-before-backward"})) == 2
    for mutant in enumerate_tree(TREE, only={"zero-grad-missing", "step-before-backward"}):
        cover = disguise_tree(TREE, 3, keep=frozenset({"train"}), mutants=[mutant])
        plain, hidden = mutated(TREE, mutant), cover.broken()
        assert losses(plain) == losses(hidden) != losses(TREE)
