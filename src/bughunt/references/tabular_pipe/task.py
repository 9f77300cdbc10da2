"""The judge's side of `tabular-pipe`: a table with holes, scales far apart, and shops of very different size.

The chance of each label is known: the curve is the divergence from it, never below zero for an honest model.
"""

import numpy as np
import torch

from bughunt.task import Data, Measurement, Model, Program, Task, Value

TRAINED, HELD_OUT = 1300, 2000
SHOPS, PLANS = 90, 5  # the last plan and some shops come only later
SCALES, CENTRES = np.array([1.0, 12.0, 150.0, 0.08, 2.0]), np.array([0.0, 5.0, 900.0, 1.0, -3.0])
EFFECTS = np.array([0.7, -0.5, 0.4, 0.6, 0.0])
MARGIN = 0.002  # added to the divergence, so that the curve stays above zero


def table(seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All rows, those to train on first, and the true chance of a positive label of each."""
    rng = np.random.default_rng(seed)
    count = TRAINED + HELD_OUT
    late = np.arange(count) >= TRAINED
    sizes = 1 / (np.arange(SHOPS) + 3.0)
    shop = rng.choice(SHOPS, count, p=sizes / sizes.sum())
    plan = rng.integers(PLANS - 1, size=count)
    plan = np.where(late & (rng.random(count) < 0.05), PLANS - 1, plan)
    shop = np.where(late & (rng.random(count) < 0.05), SHOPS + rng.integers(9, size=count), shop)
    z = rng.normal(size=(count, len(SCALES)))
    hole = rng.random(z.shape) < np.array([0.05, 0.3, 0.1, 0.1, 0.2])
    logit = z @ EFFECTS + 1.2 * hole[:, 1] - 0.9 * hole[:, 4]
    logit += 1.1 * rng.normal(size=SHOPS + 9)[shop] + np.array([0.8, 0.0, -0.8, 0.3, 0.0])[plan] - 0.8
    chance = 1 / (1 + np.exp(-logit))
    numeric = np.where(hole, np.nan, CENTRES + SCALES * z).astype(np.float32)
    names = rng.permutation(10**5)[: SHOPS + 9]
    columns = {
        "numeric": numeric,
        "plan": 10 + 3 * plan,
        "shop": names[shop],
        "label": (rng.random(count) < chance).astype(np.int64),
    }
    return {name: torch.from_numpy(values) for name, values in columns.items()}, torch.from_numpy(chance)


def _data(seed: int) -> Data:
    rows, chance = table(seed)
    later = {name: values[TRAINED:] for name, values in rows.items()}
    asked = {name: later[name] for name in ("numeric", "plan", "shop")}
    train = {name: values[:TRAINED] for name, values in rows.items()}
    return Data(train=train, held_out=(asked, later["label"], chance[TRAINED:]))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The divergence from the true chances in nats, and the area under the curve."""
    asked, label, truth = held_out
    chance = torch.as_tensor(program.predict(model, asked)).cpu().double()
    if chance.shape != truth.shape:
        raise ValueError(f"expected {tuple(truth.shape)}, got {tuple(chance.shape)}")
    p = chance.clamp(1e-7, 1 - 1e-7)
    divergence = truth * (truth / p).log() + (1 - truth) * ((1 - truth) / (1 - p)).log()
    positive, negative = chance[label > 0][:, None], chance[label == 0]
    pairs = len(positive) * len(negative)
    wins, ties = int((positive > negative).sum()), int((positive == negative).sum())
    return Measurement(curve=MARGIN + float(divergence.mean()), metric=wins / pairs + 0.5 * (ties / pairs))


TASK = Task(
    slug="tabular-pipe",
    title="Tabular pipeline",
    kind="classifier",
    topics=("S30", "S59", "S76"),
    categories=("DAT", "EVL", "NRM", "IDX", "STA"),
    data=_data,
    measure=_measure,
    curve_name="divergence from the true chances",
    metric_name="area under the curve",
    metric_higher_is_better=True,
    band=(0.72, 0.86),  # seeds 0-9: 0.764 to 0.815
    steps=160,
    small={"steps": 25, "batch": 90},
    floor=MARGIN,
    exports=("Numeric", "Plans", "Shops", "Pipeline", "folds_of", "auc", "cross_validate", "batches"),
    cpu_seconds=0.2,
)
