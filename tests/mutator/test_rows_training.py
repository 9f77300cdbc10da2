"""Mistakes in training loops, losses and layers change what a small correct program computes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from bughunt_mutator.engine import Mutant, enumerate_mutants
from bughunt_mutator.registry import load_operators

PROGRAMS = Path(__file__).parent / "programs"

ROWS = {
    "schedules": (
        "sched-per-batch",
        "sched-per-epoch-of-step-sched",
        "sched-before-opt",
        "cosine-tmax-wrong",
        "warmup-resets-each-epoch",
        "total-steps-floor",
    ),
    "accumulation": (
        "grad-accum-no-divide",
        "grad-accum-mean-of-means",
        "grad-accum-off-by-one",
        "clip-before-unscale",
        "clip-value-for-norm",
        "scaler-update-missing",
        "loss-scale-under-adam",
    ),
    "averages": ("ema-no-debias", "spectral-norm-ema", "no-decay-exact-match", "wd-on-bias-norm"),
    "class_losses": (
        "nll-without-logsoftmax",
        "double-sigmoid",
        "labels-all-ignored",
        "label-smoothing-ignored-tokens",
        "label-smoothing-off-value",
        "pos-weight-inverted",
        "class-weight-only-positives",
        "focal-gamma-multiply",
        "focal-neg-term",
        "dice-missing-one-minus",
        "dice-sum-over-batch",
        "hinge-margin-sign",
    ),
    "distillation": (
        "kl-args-swapped",
        "kl-input-not-log",
        "kl-mean-not-batchmean",
        "kd-no-t-squared",
        "kd-teacher-vs-teacher",
        "kd-wrong-softmax-temp",
    ),
    "pairs": (
        "triplet-swapped",
        "contrastive-self-not-masked",
        "contrastive-no-normalise",
        "infonce-temp-multiplied",
        "infonce-temp-neg-only",
    ),
    "router": ("moe-aux-constant",),
    "layers": (
        "ln-wrong-axes",
        "ln-eps-outside",
        "ln-power-typo",
        "rmsnorm-weight-plus-one",
        "norm-in-half",
        "eps-underflow-half",
        "variance-cancellation",
    ),
    "guards": ("where-nan-grad", "exp-of-large-ratio", "iou-in-half"),
}
CASES = [(program, row) for program, rows in ROWS.items() for row in rows]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def text_of(program: str) -> str:
    return (PROGRAMS / f"{program}.py").read_text(encoding="utf-8")


def mutants_of(program: str, row: str) -> list[Mutant]:
    owners = frozenset(each.id for each in load_operators().values() if row in each.rows)
    return [mutant for mutant in enumerate_mutants(text_of(program), owners) if mutant.row == row]


def fingerprint(text: str) -> list[float]:
    """What a program computes; PyTorch warns of some of these mistakes, which is not the point."""
    namespace: dict[str, object] = {"__name__": "program"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(text, "program", "exec"), namespace)
        compute = namespace["fingerprint"]
        assert callable(compute)
        return compute()


def same(one: list[float], other: list[float]) -> bool:
    """Whether two fingerprints agree to the last few digits; what is not a number agrees with nothing."""
    close = [abs(a - b) <= 1e-9 + 1e-6 * abs(b) for a, b in zip(one, other, strict=False)]
    return len(one) == len(other) and all(close)


@pytest.mark.parametrize("program", ROWS)
def test_a_program_computes_the_same_finite_numbers_twice(program: str) -> None:
    first = fingerprint(text_of(program))
    assert all(abs(value) < float("inf") for value in first)
    assert same(first, fingerprint(text_of(program)))


@pytest.mark.parametrize(("program", "row"), CASES, ids=[row for _, row in CASES])
def test_a_mistake_runs_to_its_end_and_changes_what_is_computed(program: str, row: str) -> None:
    right = fingerprint(text_of(program))
    wrong = [fingerprint(mutant.apply(text_of(program))) for mutant in mutants_of(program, row)]
    assert wrong
    assert not all(same(each, right) for each in wrong)


def test_a_constant_that_half_precision_cannot_hold_stops_the_program() -> None:
    mutants = mutants_of("layers", "fp16-mask-constant")
    assert len(mutants) == 1
    with pytest.raises(RuntimeError, match="Half"):
        fingerprint(mutants[0].apply(text_of("layers")))
