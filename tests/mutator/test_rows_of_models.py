"""What operators on models write runs, and does something else than the right program."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from bughunt_mutator.engine import enumerate_mutants
from bughunt_mutator.registry import load_operators

PROGRAMS = Path(__file__).parent / "programs"

MODULES = frozenset(
    {
        "architecture_graphs",
        "architecture_layers",
        "architecture_parts",
        "architecture_widths",
        "attention_cache",
        "attention_masks",
        "attention_positions",
        "attention_sampling",
        "attention_targets",
        "autograd_frozen",
        "autograd_graph",
        "init_order",
        "rnn_sequences",
        "tensor_shape_axes",
    }
)

ROWS = {
    "rope_decoder": (
        "rope-half-vs-interleaved",
        "rope-wrong-axis",
        "rope-low-precision",
        "rope-on-values",
        "pos-enc-div-term",
        "kv-cache-offset",
        "kv-prefill-unmasked",
        "kv-rope-after-update",
        "mask-after-softmax",
        "mask-additive-vs-bool",
        "embedding-scale-missing",
    ),
    "sampling": ("top-p-excludes-crossing", "top-k-off-by-one", "temperature-multiplied"),
    "graph_net": ("gnn-no-self-loop", "gnn-degree-wrong", "gnn-edge-direction"),
    "adapters": (
        "lora-scale-no-rank",
        "lora-b-not-zero",
        "freeze-too-much",
        "optimizer-before-layer-swap",
        "head-bias-prior-missing",
        "reg-term-data",
        "init-twice-consumes-rng",
        "output-activation",
    ),
    "experts": ("moe-renorm-missing", "moe-k1-softmax"),
    "denoiser": (
        "timestep-embedding-unused",
        "pos-enc-div-term",
        "rope-low-precision",
        "residual-doubled",
        "layer-duplicated",
        "activation-swap",
    ),
    "recurrent": (
        "hidden-not-reset",
        "bidir-last-wrong",
        "h-returned-as-c",
        "bptt-stride-overlap",
        "hidden-graph-retained",
        "index-off-by-one-slice",
    ),
    "translation": (
        "teacher-forcing-target",
        "eos-not-appended",
        "ctc-not-logprobs",
        "bias-missing",
    ),
    "codebook": (
        "ste-removed",
        "stopgrad-wrong-side",
        "custom-backward-sign",
        "inplace-relu-shortcut",
    ),
    "language": (
        "sdpa-bool-inverted",
        "mask-additive-vs-bool",
        "qk-swapped",
        "targets-double-shift",
        "flatten-shift-crosses-rows",
        "gelu-variant",
        "einsum-letters-swapped",
        "width-off",
    ),
    "conv_blocks": (
        "layer-removed",
        "layer-duplicated",
        "residual-doubled",
        "bias-with-bn",
        "init-fan-swapped",
        "inplace-add-breaks-grad",
        "width-off",
    ),
    "shapes": (
        "squeeze-all",
        "gather-wrong-dim",
        "cat-dim-wrong",
        "einsum-letters-swapped",
    ),
    "tied_model": ("tie-before-init", "init-twice-consumes-rng"),
}

CASES = [(program, row) for program, rows in ROWS.items() for row in rows]
STOPS = frozenset({"inplace-relu-shortcut", "inplace-add-breaks-grad"})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def operator_of(row: str) -> str:
    """The operator that writes a row of the catalogue."""
    return next(each.id for each in load_operators().values() if row in each.rows)


def outcome(text: str) -> list[float] | str:
    """What a program computes, or the error that stops it."""
    names: dict[str, object] = {"__name__": "program"}
    try:
        exec(compile(text, "program", "exec"), names)
        run = names["fingerprint"]
        assert callable(run)
        return [float(number) for number in run()]
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


@cache
def right(program: str) -> list[float]:
    """What the right program computes."""
    found = outcome((PROGRAMS / f"{program}.py").read_text())
    assert isinstance(found, list), found
    return found


def differs(one: list[float], other: list[float]) -> bool:
    """Whether two fingerprints are apart by more than rounding."""
    return len(one) != len(other) or any(not abs(a - b) <= 1e-5 for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("program", ROWS)
def test_a_right_program_computes_the_same_twice(program: str) -> None:
    again = outcome((PROGRAMS / f"{program}.py").read_text())
    assert isinstance(again, list)
    assert not differs(right(program), again)


@pytest.mark.parametrize(("program", "row"), CASES, ids=[f"{row}-in-{program}" for program, row in CASES])
def test_a_row_can_be_written_and_is_felt(program: str, row: str) -> None:
    text = (PROGRAMS / f"{program}.py").read_text()
    mutants = [each for each in enumerate_mutants(text, frozenset({operator_of(row)})) if each.row == row]
    found = [outcome(mutant.apply(text)) for mutant in mutants]
    runs = [each for each in found if isinstance(each, list)]
    stopped = [each for each in found if isinstance(each, str)]
    assert any(differs(right(program), each) for each in runs) or (row in STOPS and stopped), found


def test_every_row_of_these_modules_has_a_program() -> None:
    written = {
        row
        for operator in load_operators().values()
        if operator.find.__module__.rpartition(".")[2] in MODULES
        for row in operator.rows
    }
    assert written - {row for rows in ROWS.values() for row in rows} == set()
