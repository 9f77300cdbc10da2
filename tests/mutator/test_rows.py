"""Every row of the catalogue can be written into a program that works, and is felt there.

Most are written into small programs made for it, each of which says in `fingerprint()` what it computes; the
others into reference programs, of which the judge reports losses and measurements of a few steps.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from bughunt_mutator.engine import Mutant, enumerate_mutants
from bughunt_mutator.registry import load_operators
from bughunt_mutator.rows import SYMPTOMS, load_rows

from bughunt import references
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError

FOLDER = Path(__file__).parent / "programs"
STEPS = 3

PROGRAMS = {
    "accumulation": (
        "zero-grad-missing",
        "loss-rewrapped",
        "clip-after-step",
        "clip-before-unscale",
        "clip-value-for-norm",
        "grad-accum-no-divide",
        "grad-accum-mean-of-means",
        "grad-accum-off-by-one",
        "loss-scale-under-adam",
        "double-softmax",
        "ce-to-mse",
        "reduction-sum",
        "loss-sign",
        "scaler-update-missing",
    ),
    "adapters": (
        "zero-grad-after-backward",
        "step-before-backward",
        "detach-trunk",
        "reg-term-data",
        "aux-loss-item",
        "freeze-too-much",
        "optimizer-before-layer-swap",
        "parameter-to-tensor",
        "init-zeros",
        "init-constant",
        "init-std-large",
        "init-apply-missing",
        "init-twice-consumes-rng",
        "head-bias-prior-missing",
        "lora-b-not-zero",
        "activation-missing",
        "output-activation",
        "lora-scale-no-rank",
    ),
    "adversaries": (
        "flatten-mixes-batch",
        "adam-eps-bad",
        "optimizer-swap",
        "metric-last-batch",
        "gan-d-no-detach",
        "gan-g-detached",
        "gan-labels-swapped",
        "gp-norm-wrong-axis",
        "gp-alpha-per-pixel",
        "gp-no-create-graph",
    ),
    "averages": (
        "wd-on-bias-norm",
        "wd-groups-inverted",
        "no-decay-exact-match",
        "param-group-dropped",
        "ema-decay-inverted",
        "ema-buffers-skipped",
        "ema-no-debias",
        "eval-missing",
        "spectral-norm-ema",
    ),
    "axes": (
        "center-wrong-axis",
        "keepdim-dropped-square",
        "unsqueeze-wrong-dim",
        "matmul-missing-T-square",
        "pca-no-center",
        "pca-ascending",
        "knn-self-included",
        "ridge-penalises-bias",
        "svm-hinge-regulariser-sign",
        "tsne-p-not-symmetric",
        "kalman-gain-transposed",
    ),
    "boxes": (
        "iou-no-clamp",
        "iou-max-for-min",
        "iou-plus-one",
        "box-format-mixed",
        "nms-ascending",
    ),
    "class_losses": (
        "nll-without-logsoftmax",
        "double-sigmoid",
        "mean-over-wrong-axis",
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
        "softmax-wrong-dim",
    ),
    "codebook": (
        "no-grad-in-forward",
        "inplace-relu-shortcut",
        "ste-removed",
        "stopgrad-wrong-side",
        "custom-backward-sign",
        "residual-dropped",
    ),
    "conv_blocks": (
        "inplace-add-breaks-grad",
        "modulelist-to-list",
        "init-std-tiny",
        "init-gain-missing",
        "init-fan-swapped",
        "shared-block-alias",
        "layer-removed",
        "bias-with-bn",
    ),
    "data_pictures": (
        "aug-on-validation",
        "flip-without-label",
        "mask-bilinear",
        "image-mask-different-params",
        "channel-order",
        "noise-too-strong",
    ),
    "data_rows": (
        "labels-permuted-separately",
        "no-shuffle-sorted",
        "shuffle-before-batch-order",
        "np-seed-duplicated-workers",
        "normalise-missing",
        "normalise-twice",
        "mean-std-swapped",
        "stats-leak",
        "split-overlap",
        "time-split-shuffled",
        "feature-leaks-target",
        "label-off-by-one",
        "labels-noised",
        "class-dropped",
        "sampler-with-replacement",
        "collate-wrong-pad",
        "class-overlap",
        "batch-first-mismatch",
    ),
    "denoiser": (
        "activation-swap",
        "double-activation-before-add",
        "residual-doubled",
        "wrong-input-var",
        "layer-duplicated",
        "timestep-embedding-unused",
    ),
    "densities": (
        "flow-logdet-sign",
        "vq-commit-missing",
    ),
    "diffusion_steps": (
        "betas-swapped",
        "ddpm-alpha-prev-pad",
        "ddpm-cosine-linspace",
        "ddpm-posterior-var",
        "ddpm-t-off-by-one",
        "ddpm-no-sqrt",
        "ddpm-shared-t",
        "gae-not-reversed",
    ),
    "distillation": (
        "kl-args-swapped",
        "kl-input-not-log",
        "kl-mean-not-batchmean",
        "kd-no-t-squared",
        "kd-teacher-vs-teacher",
        "kd-wrong-softmax-temp",
    ),
    "experts": (
        "moe-renorm-missing",
        "moe-k1-softmax",
    ),
    "graph_net": (
        "gnn-no-self-loop",
        "gnn-degree-wrong",
        "gnn-edge-direction",
    ),
    "groups": (
        "kmeans-empty-cluster",
        "kmeans-argmax",
        "kmeanspp-not-squared",
    ),
    "guards": (
        "where-nan-grad",
        "iou-in-half",
        "exp-of-large-ratio",
    ),
    "integers": (
        "quant-zero-point-no-round",
        "quant-zero-point-clamped",
        "quant-clamp-before-round",
        "quant-ste-boundary",
        "quant-wrong-axis",
        "lora-merge-no-scale",
    ),
    "language": (
        "einsum-letters-swapped",
        "width-off",
        "causal-mask-off-by-one",
        "sdpa-bool-inverted",
        "qk-swapped",
        "targets-unshifted",
        "targets-double-shift",
        "flatten-shift-crosses-rows",
        "gelu-variant",
    ),
    "latent": (
        "nb-prob-underflow",
        "em-no-logsumexp",
        "hmm-unscaled",
        "viterbi-backpointer",
        "softmax-no-max",
    ),
    "layers": (
        "ln-unbiased-std",
        "ln-eps-outside",
        "ln-power-typo",
        "ln-wrong-axes",
        "rmsnorm-weight-plus-one",
        "fp16-mask-constant",
        "eps-underflow-half",
        "variance-cancellation",
        "norm-in-half",
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
    "metric_counts": (
        "metric-mean-of-batches",
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
        "vae-std-is-var",
    ),
    "pairs": (
        "triplet-swapped",
        "contrastive-self-not-masked",
        "contrastive-no-normalise",
        "infonce-temp-multiplied",
        "infonce-temp-neg-only",
        "causal-mask-missing",
        "sqrt-dk-missing",
    ),
    "policies": (
        "gae-done-off-by-one",
        "no-discount",
        "ppo-ratio-constant",
        "ppo-clip-max",
        "ppo-oldlogp-not-stored",
        "logp-not-summed",
        "logp-summed-over-batch",
        "tanh-correction-missing",
        "twin-critic-single",
        "target-entropy-sign",
        "reward-normalised-mean",
        "log-no-eps",
    ),
    "q_learning": (
        "bcast-logp-adv-nxn",
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
    "ragged": (
        "bcast-mse-n-vs-n1",
        "repeat-for-repeat-interleave",
        "policy-head-gain",
        "adamw-to-l2",
        "adam-no-bias-correction",
        "adam-bias-no-power",
        "adam-bias-t-zero",
        "adam-eps-scaled",
        "functional-dropout-on",
        "last-step-is-padding",
        "logsumexp-naive",
    ),
    "ranks": (
        "ddp-set-epoch-missing",
        "ddp-bypass",
        "ddp-params-moved",
        "clip-per-rank",
        "allreduce-sum-no-divide",
        "rank-same-seed",
    ),
    "recurrent": (
        "index-off-by-one-slice",
        "hidden-graph-retained",
        "h-returned-as-c",
        "hidden-not-reset",
        "bidir-last-wrong",
        "lstm-gate-order",
        "cell-update-sign",
        "bptt-stride-overlap",
    ),
    "rope_decoder": (
        "embedding-scale-missing",
        "mask-additive-vs-bool",
        "mask-after-softmax",
        "sqrt-d-model",
        "heads-view-no-transpose",
        "heads-merge-no-transpose",
        "value-from-key",
        "pos-enc-div-term",
        "rope-half-vs-interleaved",
        "rope-wrong-axis",
        "rope-low-precision",
        "rope-on-values",
        "kv-cache-offset",
        "kv-prefill-unmasked",
        "kv-rope-after-update",
    ),
    "router": ("moe-aux-constant",),
    "sampling": (
        "top-p-excludes-crossing",
        "top-k-off-by-one",
        "temperature-multiplied",
    ),
    "schedules": (
        "sched-per-batch",
        "sched-per-epoch-of-step-sched",
        "cosine-tmax-wrong",
        "warmup-resets-each-epoch",
        "total-steps-floor",
        "sched-before-opt",
        "integer-division",
    ),
    "service": (
        "serve-preproc-skew",
        "stale-feature-cache",
        "drift-window-includes-current",
        "calibration-temp-inverse",
        "dynamic-batch-padding-leak",
    ),
    "shapes": (
        "squeeze-all",
        "gather-wrong-dim",
        "cat-dim-wrong",
    ),
    "tied_model": (
        "tied-weights-broken",
        "tie-before-init",
    ),
    "trainer": (
        "optimizer-misses-params",
        "warmup-never-ends",
        "ema-wrong-iterator",
        "state-dict-alias",
        "early-stop-mode",
        "pos-enc-batch-axis",
        "pos-enc-single-index",
        "bn-no-running-update",
        "bn-biased-running-var",
        "sqrt-grad-at-zero",
        "uint8-wrap",
    ),
    "translation": (
        "ignore-index-dropped",
        "bias-missing",
        "teacher-forcing-target",
        "ctc-not-logprobs",
        "eos-not-appended",
    ),
    "trees": (
        "gbm-residual-sign",
        "gbm-init-missing-predict",
        "gbm-sign-not-residual",
        "tree-gini-unweighted",
        "rf-no-bootstrap",
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

REFERENCES = {
    "kmeans-pp": ("train-test-preproc-mismatch",),
    "lstm-varlen": ("pad-mask-ignored", "lstm-forget-bias-neg"),
    "numpy-mlp": ("same-batch-reused", "dropout-no-rescale"),
    "optim-zoo": (
        "lr-too-high",
        "lr-too-low",
        "nesterov-sign",
        "clip-the-loss",
        "wd-too-strong",
    ),
    "reinforce-cartpole": (
        "dqn-done-mask-missing",
        "adv-norm-missing",
        "entropy-sign",
        "adv-sign",
    ),
    "resnet-mini": ("view-for-transpose",),
    "tiny-gpt": (
        "init-residual-scale-missing",
        "init-residual-wrong-name",
    ),
    "trainer-loop": (
        "train-mode-not-restored",
        "bn-momentum-tf",
        "bn-momentum-zero",
        "bn-eval-uses-batch",
        "dropout-keep-prob",
        "dropout-before-bn",
        "wd-missing",
    ),
    "tsne-mini": ("momentum-buffer-reset",),
    "vae-digits": (
        "vae-kl-sign",
        "vae-kl-mean-dims",
        "vae-z-detached",
        "vae-recon-mean-kl-sum",
    ),
}
CONFIGURATIONS = {"nesterov-sign": "nesterov"}

STOPS = frozenset(
    {"label-off-by-one", "inplace-relu-shortcut", "inplace-add-breaks-grad", "fp16-mask-constant"}
)
ERRORS = (IndexError, RuntimeError, TypeError, ValueError, AttributeError)
Said = Sequence[object]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as found:
        yield found


@cache
def text_of(program: str) -> str:
    return (FOLDER / f"{program}.py").read_text(encoding="utf-8")


def mutants_of(text: str, row: str) -> list[Mutant]:
    own = frozenset(id_ for id_, operator in load_operators().items() if row in operator.rows)
    return [mutant for mutant in enumerate_mutants(text, own) if mutant.row == row]


def flat(value: object) -> Iterator[object]:
    """The numbers and words in nested containers."""
    if isinstance(value, dict):
        value = list(value.items())
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        for each in value:
            yield from flat(each)
    else:
        yield value


def outcome(text: str) -> Said | str:
    """What a program computes, or the kind of error that ends it."""
    names: dict[str, object] = {"__name__": "program"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(text, "program", "exec", dont_inherit=True), names)
            run = names["fingerprint"]
            assert callable(run)
            return list(flat(run()))
    except ERRORS as error:
        return type(error).__name__


@cache
def intact(program: str) -> Said:
    said = outcome(text_of(program))
    assert not isinstance(said, str), said
    return said


def near(one: object, other: object) -> bool:
    """Equal but for rounding; what is not a number is near nothing."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return one == other or abs(one - other) <= 1e-9 + 1e-6 * abs(other)
    return one == other


def differs(one: Said, other: Said) -> bool:
    return len(one) != len(other) or not all(near(a, b) for a, b in zip(one, other, strict=True))


BY_PROGRAM = pytest.mark.parametrize("program", PROGRAMS)
BY_ROW = pytest.mark.parametrize(
    ("program", "row"),
    [(program, row) for program, rows in PROGRAMS.items() for row in rows],
    ids=[row for rows in PROGRAMS.values() for row in rows],
)
BY_REFERENCE_ROW = pytest.mark.parametrize(
    ("slug", "row"),
    [(slug, row) for slug, rows in REFERENCES.items() for row in rows],
    ids=[row for rows in REFERENCES.values() for row in rows],
)


@BY_PROGRAM
def test_a_program_says_the_same_each_time(program: str) -> None:
    assert not differs(intact(program), list(outcome(text_of(program))))


@BY_ROW
def test_a_row_changes_what_a_program_does(program: str, row: str) -> None:
    found = [outcome(mutant.apply(text_of(program))) for mutant in mutants_of(text_of(program), row)]
    felt = [said for said in found if isinstance(said, str) or differs(said, intact(program))]
    if row not in STOPS:
        felt = [said for said in felt if not isinstance(said, str)]
    assert felt, f"{len(found)} mutants of {row}, none of them felt: {found[:2]}"


@BY_REFERENCE_ROW
def test_a_row_changes_the_training_of_a_reference(judge: Judge, slug: str, row: str) -> None:
    text = references.load(slug).files["train.py"]
    configuration = CONFIGURATIONS.get(row, "default")
    right = measured(judge, slug, text, configuration)
    found = [measured(judge, slug, each.apply(text), configuration) for each in mutants_of(text, row)]
    assert right
    assert any(said and differs(said, right) for said in found)


@cache
def measured(judge: Judge, slug: str, text: str, configuration: str) -> Said:
    """What the program reports and the judge sees over the first steps; nothing of one that stops."""
    task = references.load(slug).task
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            curve = judge.measure({"train.py": text}, task, 0, configuration, steps=STEPS)
    except ProgramError:
        return ()
    return (*curve.values, *curve.reported)


def test_every_row_has_its_program() -> None:
    placed = Counter(row for rows in (*PROGRAMS.values(), *REFERENCES.values()) for row in rows)
    assert set(placed) == set(load_rows())
    assert [row for row, count in placed.items() if count > 1] == []


def test_every_row_is_written_by_exactly_one_operator_and_no_row_is_unknown() -> None:
    """General operators stand beside the catalogue: each has a row of its own, named as it is."""
    written = Counter(row for operator in load_operators().values() for row in operator.rows)
    assert {row: written[row] for row in load_rows()} == dict.fromkeys(load_rows(), 1)
    for operator in load_operators().values():
        general = operator.find.__module__.rpartition(".")[2].startswith("general")
        unknown = [row for row in operator.rows if row not in load_rows()]
        assert unknown == [] or general, operator.id


@pytest.mark.parametrize("id_", sorted(load_operators()))
def test_an_operator_says_what_its_rows_say(id_: str) -> None:
    operator = load_operators()[id_]
    own = [load_rows()[row] for row in operator.rows if row in load_rows()]
    assert {row.category for row in own} <= {operator.category}
    assert not own or operator.difficulty in {row.difficulty for row in own}


def test_rows_are_told_apart_by_their_words() -> None:
    texts = [row.text for row in load_rows().values()]
    assert len(set(texts)) == len(texts) == 354
    assert all(re.fullmatch(r"[A-Z].*\.", text) for text in texts)
    assert {row.shows for row in load_rows().values()} == set(SYMPTOMS)
    assert {row.difficulty for row in load_rows().values()} == {1, 2, 3, 4, 5}
