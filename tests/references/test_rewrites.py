"""A battery passes whatever is right, however it is written.

Three versions of every program: two are disguised, which renames and rewrites and answers the same bits. The
third begins at another place of the random numbers, in `build` and in `train`, and registers what it has in
the reverse order: equal in distribution and in nothing else.
"""

from collections.abc import Mapping

import pytest

from bughunt import references
from bughunt.bugsets.proof import fingerprint, settle
from bughunt.judge.judge import Case, Judge
from bughunt.judge.program import ProgramError
from bughunt.references import Reference

ELSEWHERE = {
    "torch": "torch.rand(3, generator=rng, device=rng.device)",
    "numpy": "rng.random(3)",
}
OTHERWISE = """


import numpy as _numpy
import torch as _torch

_build, _train = build, train


def build(cfg):
    _torch.rand(5), _numpy.random.random(5)
    model = _build(cfg)
    if isinstance(model, dict):
        return dict(reversed(model.items()))
    for part in model.modules():
        if not isinstance(part, (_torch.nn.Sequential, _torch.nn.ModuleList)):
            for held in (part._modules, part._parameters):
                turned = dict(reversed(held.items()))
                held.clear()
                held.update(turned)
    return model


def train(model, data, cfg, rng):
    {draw}
    yield from _train(model, data, cfg, rng)
"""


def otherwise(reference: Reference) -> dict[str, str]:
    """The program with other draws and another order of what it has."""
    draw = ELSEWHERE[reference.task.rng].replace("torch.", "_torch.")
    text = reference.files["train.py"] + OTHERWISE.replace("{draw}", draw)
    return {**reference.files, "train.py": text}


def disguised(judge: Judge, reference: Reference, seed: int) -> dict[str, str]:
    """The program written differently, by rewrites that change no number of it."""

    def take(files: Mapping[str, str]) -> str:
        try:
            return fingerprint(judge, files, reference, 1)
        except ProgramError as error:
            return str(error)

    cover = settle(reference, (), seed, take)
    assert cover is not None
    return cover.files


def version(judge: Judge, reference: Reference, number: int) -> dict[str, str]:
    if number == 2 and reference.task.trains:
        return otherwise(reference)
    return disguised(judge, reference, number + 1)


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("slug", references.slugs())
def test_a_battery_passes_a_right_program_that_is_written_differently(judge, slug, number):
    reference = references.load(slug)
    files = version(judge, reference, number)
    assert files != reference.files
    case = Case(reference.task, reference.files, reference.test_path)
    results = judge.battery(files, case, 5)
    assert results
    assert [(one.name, one.detail) for one in results if not one.passed] == []
