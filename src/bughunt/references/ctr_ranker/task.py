"""The judge's side of `ctr-ranker`: later impressions, with users and items that were never seen before.

The chance of each click is known, so the curve is free of the luck of the clicks themselves: it is the
divergence from the true chances, which no honest model gets below zero.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

USERS, ITEMS, HOURS, TASTES = 90, 50, 24, 2
NEW = 0.12  # of users and items, who come only later
TRAINED, HELD_OUT = 14_000, 4_000
MARGIN = 0.002  # added to the divergence, so that the curve stays above zero

Array = NDArray[np.float64]


def impressions(seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All impressions in order of time, and the true chance of a click of each."""
    rng = np.random.default_rng(seed)
    count = TRAINED + HELD_OUT
    time = np.sort(rng.uniform(0, 30, count))
    user, item = (_who(rng, size, time) for size in (USERS, ITEMS))
    hour = np.floor(24 * (time % 1)).astype(np.int64)
    likes, shows = rng.normal(size=(USERS, TASTES)), rng.normal(size=(ITEMS, TASTES))
    logit = (likes[user] * shows[item]).sum(axis=1) + 0.5 * rng.normal(size=ITEMS)[item]
    logit += 0.6 * np.sin(2 * np.pi * hour / HOURS) + 0.4 * rng.normal(size=USERS)[user] - 2.3
    chance = 1 / (1 + np.exp(-logit))
    click = (rng.random(count) < chance).astype(np.int64)
    names = rng.permutation(10**6)[: USERS + ITEMS]  # raw numbers mean nothing
    columns = {"user": names[user], "item": names[USERS + item], "hour": hour, "time": time, "click": click}
    return {name: torch.from_numpy(values) for name, values in columns.items()}, torch.from_numpy(chance)


def _who(rng: np.random.Generator, size: int, time: Array) -> NDArray[np.int64]:
    """Some are frequent, and the last ones appear only when the training data have ended."""
    weights = 1 / (np.arange(size) + 12.0)
    known = round((1 - NEW) * size)
    early = rng.choice(known, len(time), p=weights[:known] / weights[:known].sum())
    late = rng.choice(size, len(time), p=weights / weights.sum())
    return np.where(np.arange(len(time)) < TRAINED, early, late)


def _data(seed: int) -> Data:
    rows, chance = impressions(seed)
    order = torch.randperm(TRAINED, generator=torch.Generator().manual_seed(seed))
    train = {name: values[:TRAINED][order] for name, values in rows.items()}
    later = {name: values[TRAINED:] for name, values in rows.items()}
    asked = {name: later[name] for name in ("user", "item", "hour", "time")}
    return Data(train=train, held_out=(asked, later["click"], chance[TRAINED:]))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The divergence from the true chances in nats, and the area under the curve of the clicks that came."""
    asked, click, truth = held_out
    chance = torch.as_tensor(program.predict(model, asked)).cpu().double()
    if chance.shape != truth.shape:
        raise ValueError(f"expected {tuple(truth.shape)}, got {tuple(chance.shape)}")
    p = chance.clamp(1e-7, 1 - 1e-7)
    divergence = truth * (truth / p).log() + (1 - truth) * ((1 - truth) / (1 - p)).log()
    wins = chance[click > 0][:, None] - chance[click == 0][None, :]
    area = (wins > 0).double().mean() + 0.5 * (wins == 0).double().mean()
    return Measurement(curve=MARGIN + float(divergence.mean()), metric=float(area))


TASK = Task(
    slug="ctr-ranker",
    title="Click ranker",
    kind="classifier",
    topics=("S4", "S30", "S41", "S57", "S68", "S76"),
    categories=("DAT", "LOS", "EVL", "NUM", "IDX"),
    data=_data,
    measure=_measure,
    curve_name="divergence from the true chances",
    metric_name="area under the curve",
    metric_higher_is_better=True,
    band=(0.68, 0.84),  # seeds 0-9: 0.722 to 0.787
    steps=220,
    small={"steps": 30, "batch": 90, "channels": 6},
    floor=MARGIN,
    exports=(
        "vocabulary",
        "encode",
        "pair_products",
        "calibrated",
        "thinned",
        "auc",
        "split_by_time",
        "batches",
        "loss",
        "evaluate",
    ),
    cpu_seconds=0.7,
)
