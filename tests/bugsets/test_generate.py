"""Real generation on the cheapest program, with a cache of its own."""

import pytest

from bughunt.bugsets.generate import generate
from bughunt.errors import BughuntError, UsageError

pytestmark = pytest.mark.slow


def make(root, monkeypatch, **changes):
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    options = {"name": "tiny", "count": 1, "seed": 5, "reference_slugs": ["kmeans-pp"], "operator_ids": []}
    return generate(**{**options, **changes}, out=root / "bugs", workers=1)


def test_the_same_seed_gives_the_same_bytes(tmp_path, monkeypatch):
    first = make(tmp_path / "one", monkeypatch).folder
    second = make(tmp_path / "two", monkeypatch).folder
    assert _bytes(first) == _bytes(second)
    assert not list((tmp_path / "one" / "bugs").glob(".bughunt-*"))


def test_a_set_is_never_overwritten(tmp_path, monkeypatch):
    (tmp_path / "bugs" / "tiny").mkdir(parents=True)
    with pytest.raises(UsageError, match="exists already"):
        make(tmp_path, monkeypatch)


def test_too_few_mutants_are_said_and_nothing_is_left_behind(tmp_path, monkeypatch):
    with pytest.raises(BughuntError, match="only 0 of 3"):
        make(tmp_path, monkeypatch, count=3, operator_ids=["causal-mask-missing"])
    assert not (tmp_path / "bugs").exists()


def _bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
