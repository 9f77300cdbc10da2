"""The judge's side of `dpo-sort`: strings drawn by the judge from what the model says, one digit at a time.

The score is how well sorted these strings are; the price is how far the model has moved from the corpus, of
which the judge knows the true chances.
"""

import torch
from torch import Tensor

from bughunt.task import Data, Measurement, Model, Program, Task

LENGTH = 7
SORTED_SHARE = 0.15
TRAIN_ROWS, DRAWN = 4000, 400


def strings(count: int, seed: int) -> Tensor:
    """Digits [N, 7], even draws; 15 of 100 strings are sorted afterwards."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randint(10, (count, LENGTH), generator=rng)
    chosen = torch.rand(count, generator=rng) < SORTED_SHARE
    return torch.where(chosen[:, None], drawn.sort(dim=1).values, drawn)


def _data(seed: int) -> Data:
    luck = torch.rand(DRAWN, LENGTH, generator=torch.Generator().manual_seed(seed + 1))
    return Data(train=strings(TRAIN_ROWS, seed), held_out=luck)


def drawn_by(program: Program, model: Model, luck: Tensor) -> tuple[Tensor, Tensor]:
    """Strings [N, 7] drawn from the model's answers, and their log-chances [N]."""
    tokens = torch.zeros(len(luck), 0, dtype=torch.long)
    total = torch.zeros(len(luck), dtype=torch.float64)
    for column in luck.double().T:
        answer = torch.as_tensor(program.predict(model, tokens)).cpu().double()
        reached = answer.exp().cumsum(dim=1)
        chosen = torch.searchsorted(reached, column[:, None].contiguous()).clamp(max=answer.size(1) - 1)
        total += answer.gather(1, chosen).squeeze(1)
        tokens = torch.cat([tokens, chosen], dim=1)
    return tokens, total


def in_order(digits: Tensor) -> Tensor:  # [N, 7] -> [N]
    """The share of neighbours in order."""
    fine = (digits[:, 1:] >= digits[:, :-1]) & (digits[:, 1:] < 10) & (digits[:, :-1] < 10)
    return fine.double().mean(dim=1)


def _measure(program: Program, model: Model, held_out: Tensor) -> Measurement:
    digits, _ = drawn_by(program, model, held_out)
    reached = in_order(digits).mean().item()
    return Measurement(curve=1.02 - reached, metric=reached)


TASK = Task(
    slug="dpo-sort",
    title="Preference tuning",
    kind="language-model",
    topics=("S60",),
    categories=("LOS", "GRD", "IDX", "STA", "GEN"),
    data=_data,
    measure=_measure,
    curve_name="neighbours out of order",
    metric_name="neighbours in order",
    metric_higher_is_better=True,
    band=(0.96, 1.0),  # seeds 0-9: 0.984 to 0.998, standard deviation 0.004
    steps=230,
    small={"steps": 10, "imitation": 5, "batch": 20, "hidden": 16, "pairs": 20},
    probes=20,
    floor=0.02,
    exports=(
        "Tuned.policy",
        "Tuned.reference",
        "freeze",
        "imitation_loss",
        "log_chance",
        "preference_loss",
        "ranked",
        "shift",
        "sortedness",
        "with_start",
        "write",
    ),
    cpu_seconds=2.5,
)
