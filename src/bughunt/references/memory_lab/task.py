"""The judge's side of `memory-lab`: noisy code words, whose true chances are known.

A row is one of 260 words of 12 numbers, plus normal noise. Bayes' rule gives the chance of each word; no
honest model does better than that but by luck on the held-out rows, which the margin allows for.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.task import Data, Measurement, Model, Program, Task

WORDS, INPUTS = 260, 12
NOISE = 0.6
TRAIN_ROWS, HELD_OUT_ROWS = 6000, 1000
MARGIN = 0.1


def rows(count: int, words: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    labels = torch.randint(len(words), (count,), generator=rng)
    return {"inputs": words[labels] + NOISE * torch.randn(count, INPUTS, generator=rng), "labels": labels}


def chances(inputs: Tensor, words: Tensor) -> Tensor:  # [N, D], [V, D] -> [N, V]
    """The logarithm of how likely each word is, given the noisy row."""
    return (-torch.cdist(inputs.double(), words.double()).square() / (2 * NOISE**2)).log_softmax(dim=1)


def _data(seed: int) -> Data:
    rng = torch.Generator().manual_seed(seed)
    words = torch.randn(WORDS, INPUTS, generator=rng)
    train, unseen = rows(TRAIN_ROWS, words, rng), rows(HELD_OUT_ROWS, words, rng)
    best = F.nll_loss(chances(unseen["inputs"], words), unseen["labels"]).item()
    return Data(train=train, held_out={**unseen, "best": best})


def _measure(program: Program, model: Model, held_out: dict[str, Tensor | float]) -> Measurement:
    inputs, labels = torch.as_tensor(held_out["inputs"]), torch.as_tensor(held_out["labels"])
    answers = torch.as_tensor(program.predict(model, inputs)).double()
    excess = F.nll_loss(answers, labels).item() - float(held_out["best"])
    right = (answers.argmax(dim=1) == labels).double().mean().item()
    return Measurement(curve=MARGIN + excess, metric=right)


TASK = Task(
    slug="memory-lab",
    title="Memory laboratory",
    kind="classifier",
    topics=("S12", "S19", "S20", "S28", "S70"),
    categories=("PRF", "GRD", "STA", "API"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss above the least",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.79, 0.93),  # seeds 0-9: 0.836 to 0.888, standard deviation 0.015
    steps=250,
    small={"steps": 8, "batch": 50, "rows": 16},
    probes=20,
    floor=0.02,
    exports=(
        "Block",
        "ChunkedLoss",
        "Momentum",
        "Rerun",
        "batches",
        "learning_rate",
        "loss",
        "moments",
        "standardise_",
        "windows",
    ),
    cpu_seconds=1.9,
)
