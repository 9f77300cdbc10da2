"""What operators on generative models, agents and serving write runs, and is felt in a right program."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from bughunt_mutator.engine import Mutant, enumerate_mutants
from bughunt_mutator.registry import load_operators

PROGRAMS = Path(__file__).parent / "programs"
MODULES = ("generative_", "rl_", "distributed", "quantisation", "serving")
ROWS = {
    "adversaries": (
        "gan-d-no-detach",
        "gan-g-detached",
        "gan-labels-swapped",
        "gp-norm-wrong-axis",
        "gp-alpha-per-pixel",
        "gp-no-create-graph",
    ),
    "diffusion_steps": (
        "ddpm-alpha-prev-pad",
        "ddpm-cosine-linspace",
        "ddpm-posterior-var",
        "ddpm-t-off-by-one",
        "ddpm-no-sqrt",
        "ddpm-shared-t",
    ),
    "densities": ("flow-logdet-sign", "vq-commit-missing"),
    "q_learning": (
        "dqn-mask-plus",
        "dqn-mask-inverted",
        "dqn-target-not-detached",
        "dqn-target-alias",
        "target-never-synced",
        "polyak-inverted",
        "double-dqn-wrong-net",
        "n-step-illegal-actions",
        "gae-truncation-as-terminal",
        "state-not-updated",
    ),
    "policies": (
        "gae-done-off-by-one",
        "reward-normalised-mean",
        "ppo-ratio-constant",
        "ppo-clip-max",
        "ppo-oldlogp-not-stored",
        "logp-not-summed",
        "logp-summed-over-batch",
        "tanh-correction-missing",
        "twin-critic-single",
        "target-entropy-sign",
    ),
    "ranks": (
        "ddp-set-epoch-missing",
        "ddp-bypass",
        "ddp-params-moved",
        "clip-per-rank",
        "allreduce-sum-no-divide",
        "rank-same-seed",
    ),
    "integers": (
        "quant-zero-point-no-round",
        "quant-zero-point-clamped",
        "quant-clamp-before-round",
        "quant-ste-boundary",
        "quant-wrong-axis",
        "lora-merge-no-scale",
    ),
    "service": (
        "serve-preproc-skew",
        "stale-feature-cache",
        "drift-window-includes-current",
        "calibration-temp-inverse",
        "dynamic-batch-padding-leak",
    ),
}
BY_ROW = pytest.mark.parametrize(
    ("row", "program"), [(row, program) for program, rows in ROWS.items() for row in rows]
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def text_of(program: str) -> str:
    return (PROGRAMS / f"{program}.py").read_text()


def run(text: str) -> list[float]:
    """What a program says of itself."""
    names: dict[str, Any] = {"__name__": "mutated"}
    exec(compile(text, "mutated", "exec", dont_inherit=True), names)
    return names["fingerprint"]()


@cache
def right(program: str) -> list[float]:
    return run(text_of(program))


def mutants(row: str, program: str) -> list[Mutant]:
    """The mutants of one row in a program."""
    serving = [operator.id for operator in load_operators().values() if row in operator.rows]
    return [mutant for mutant in enumerate_mutants(text_of(program), serving) if mutant.row == row]


def felt(text: str, program: str) -> bool:
    """Whether a program runs to its end and says something else than the right one."""
    try:
        found = run(text)
    except (RuntimeError, IndexError, ValueError):
        return False
    wanted = right(program)
    same = len(found) == len(wanted) and torch.tensor(found).allclose(
        torch.tensor(wanted), rtol=1e-5, atol=1e-7
    )
    return len(found) == len(wanted) and not same


@pytest.mark.parametrize("program", ROWS)
def test_a_right_program_says_the_same_twice(program: str) -> None:
    said = torch.tensor(right(program))
    assert said.isfinite().all()
    assert torch.tensor(run(text_of(program))).equal(said)


@BY_ROW
def test_a_row_is_written_and_felt_in_a_program_that_runs(row: str, program: str) -> None:
    assert any(felt(mutant.apply(text_of(program)), program) for mutant in mutants(row, program))


def test_no_row_of_these_operators_is_left_out() -> None:
    listed = {row for rows in ROWS.values() for row in rows}
    served = {
        row
        for operator in load_operators().values()
        if operator.find.__module__.rpartition(".")[2].startswith(MODULES)
        for row in operator.rows
    }
    assert listed == served
