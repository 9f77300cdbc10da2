"""The judge's side of `stream-hash`: clicks that depend on three fields and on two of them together.

Rows come sorted by the first field, so that a stream which is not mixed learns badly.
"""

import numpy as np

from bughunt.task import Data, Measurement, Model, Program, Task, Value

SHARDS, ROWS, HELD_OUT = 7, 2200, 1500
SIZES = (40, 25, 12)
LAW = 41  # the same effects for every seed, or seeds would differ in what can be known


def _draw(seed: int, count: int) -> tuple[Value, Value, Value]:
    law = np.random.default_rng(LAW)
    effects = [law.normal(size=size) for size in SIZES]
    together = 1.4 * law.normal(size=(SIZES[1], SIZES[2]))
    rng = np.random.default_rng([seed, count])
    values = np.stack([rng.zipf(1.35, count) % size for size in SIZES], axis=1)
    logit = sum(effect[values[:, field]] for field, effect in enumerate(effects))
    chance = 1 / (1 + np.exp(1.2 - logit - together[values[:, 1], values[:, 2]]))
    return values, (rng.random(count) < chance).astype(np.int64), chance


def _data(seed: int) -> Data:
    values, labels, _ = _draw(seed, SHARDS * ROWS)
    order = np.argsort(values[:, 0], kind="stable")
    parts = np.array_split(order, SHARDS)
    parts = [parts[number] for number in np.random.default_rng(seed).permutation(SHARDS)]
    unseen, answers, chance = _draw(seed, HELD_OUT)
    return Data(
        train=[{"values": values[rows], "labels": labels[rows]} for rows in parts],
        held_out={"values": unseen, "labels": answers, "chance": chance},
    )


def lost(chances: Value, labels: Value) -> float:
    """The mean negative log-likelihood in nats."""
    chances = np.clip(np.asarray(chances, dtype=float), 1e-9, 1 - 1e-9)
    return float(-np.where(labels == 1, np.log(chances), np.log(1 - chances)).mean())


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The loss beyond that of the true chances, and the area under the curve of hits against false alarms."""
    chances = np.asarray(program.predict(model, held_out["values"]))
    labels = held_out["labels"]
    positive, negative = chances[labels == 1], chances[labels == 0]
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    excess = lost(chances, labels) - lost(held_out["chance"], labels)
    return Measurement(curve=excess, metric=float(above))


TASK = Task(
    slug="stream-hash",
    title="Clicks from a stream",
    kind="classifier",
    topics=("S6", "S12", "S19", "S30", "S38", "S58", "S72"),
    categories=("PRF", "DAT", "ALG", "IDX", "STA"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss beyond that of the true chances",
    metric_name="area under the curve",
    metric_higher_is_better=True,
    band=(0.78, 0.87),  # seeds 0-9: 0.812 to 0.836, standard deviation 0.007
    steps=320,
    small={"steps": 8, "batch": 9, "buckets": 512, "buffer": 40, "block": 13},
    probes=16,
    rng="numpy",
    exports=(
        "hashed",
        "features",
        "write_shards",
        "read",
        "mixed",
        "batches",
        "log_loss",
        "sigmoid",
        "update",
        "auc",
        "Progress",
    ),
    cpu_seconds=1.0,
)
