"""Each row of five categories can be written into a program that works, and is felt there."""

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
    "data_rows": (
        "shuffle-before-batch-order",
        "np-seed-duplicated-workers",
        "normalise-twice",
        "stats-leak",
        "split-overlap",
        "time-split-shuffled",
        "feature-leaks-target",
        "label-off-by-one",
        "labels-noised",
        "class-dropped",
        "class-overlap",
        "collate-wrong-pad",
    ),
    "data_pictures": (
        "aug-on-validation",
        "flip-without-label",
        "mask-bilinear",
        "image-mask-different-params",
        "channel-order",
        "noise-too-strong",
    ),
    "metric_counts": (
        "metric-fixed-batchsize",
        "val-on-train",
        "threshold-on-logits",
        "argmax-wrong-dim",
        "patience-one",
        "perplexity-mean-exp",
        "macro-vs-micro",
        "iou-metric-averaged",
        "eval-wrong-weights",
        "elbo-eval-deterministic",
        "auc-from-labels",
    ),
    "maps": (
        "same-padding-off",
        "stride-dilation-swapped",
        "groups-wrong",
        "pool-max-avg",
        "pool-argmax-backward",
        "conv-backward-no-flip",
        "convtranspose-output-padding",
        "im2col-order",
        "upsample-align-corners",
    ),
    "boxes": (
        "iou-no-clamp",
        "iou-max-for-min",
        "iou-plus-one",
        "box-format-mixed",
        "nms-ascending",
    ),
    "axes": (
        "pca-no-center",
        "pca-ascending",
        "ridge-penalises-bias",
        "svm-hinge-regulariser-sign",
        "tsne-p-not-symmetric",
        "knn-self-included",
        "kalman-gain-transposed",
    ),
    "trees": (
        "gbm-residual-sign",
        "gbm-init-missing-predict",
        "gbm-sign-not-residual",
        "tree-gini-unweighted",
        "rf-no-bootstrap",
    ),
    "latent": (
        "nb-prob-underflow",
        "em-no-logsumexp",
        "hmm-unscaled",
        "viterbi-backpointer",
    ),
    "upkeep": (
        "loss-graph-accumulated",
        "outputs-list-with-graph",
        "no-grad-missing-eval",
        "item-every-step",
        "to-device-in-inner-loop",
        "python-loop-for-vectorised",
        "mask-rebuilt-each-forward",
        "quadratic-cat",
        "kv-cache-disabled",
        "replay-unbounded",
    ),
}
CRASHES = frozenset({"label-off-by-one"})
BY_ROW = pytest.mark.parametrize(
    ("program", "row"),
    [(program, row) for program, rows in ROWS.items() for row in rows],
    ids=[row for rows in ROWS.values() for row in rows],
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def source(program: str) -> str:
    return (PROGRAMS / f"{program}.py").read_text()


def mutants(program: str, row: str) -> list[Mutant]:
    own = frozenset(id_ for id_, operator in load_operators().items() if row in operator.rows)
    return [mutant for mutant in enumerate_mutants(source(program), own) if mutant.row == row]


def outcome(text: str) -> str:
    """What a program computes, or the kind of error that ends it."""
    names: dict[str, object] = {"__name__": "program"}
    try:
        exec(compile(text, "program", "exec"), names)
        run = names["fingerprint"]
        assert callable(run)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return repr(run())
    except (IndexError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        return f"stopped: {type(error).__name__}"


@cache
def intact(program: str) -> str:
    return outcome(source(program))


@pytest.mark.parametrize("program", ROWS)
def test_a_program_says_the_same_each_time(program: str) -> None:
    assert not intact(program).startswith("stopped")
    assert outcome(source(program)) == intact(program)


@BY_ROW
def test_a_row_changes_what_a_program_does(program: str, row: str) -> None:
    found = [outcome(each.apply(source(program))) for each in mutants(program, row)]
    felt = [each for each in found if each != intact(program)]
    if row not in CRASHES:
        felt = [each for each in felt if not each.startswith("stopped")]
    assert felt, f"{len(found)} mutants of {row}, none of them felt: {found[:2]}"
