"""The judge's side of `augment-pipe`: packs as they come, and others in which glyphs are turned further."""

import torch
from torch.nn import functional as F

from bughunt.references.data.packs import packs
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TRAIN_ROWS, HELD_OUT_ROWS = 500, 200
TURN = 0.6


def _data(seed: int) -> Data:
    """Rows come sorted by class, so that a program which does not shuffle learns badly."""
    held_out = [packs(HELD_OUT_ROWS, 3 * seed + 1), packs(HELD_OUT_ROWS, 3 * seed + 2, turn=TURN)]
    return Data(train=packs(TRAIN_ROWS, 3 * seed, ordered=True), held_out=held_out)


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    losses, hits = [], []
    for given in held_out:
        labels = given["labels"]
        asked = {"bytes": given["bytes"], "shapes": given["shapes"]}
        answers = torch.as_tensor(program.predict(model, asked)).float()
        losses.append(F.nll_loss(answers, labels).item())
        hits.append((answers.argmax(dim=1) == labels).double().mean().item())
    return Measurement(curve=sum(losses) / len(losses), metric=sum(hits) / len(hits))


TASK = Task(
    slug="augment-pipe",
    title="Vision input pipeline",
    kind="classifier",
    topics=("S30", "S41", "S68", "S76"),
    categories=("DAT", "NRM", "RNG", "IDX", "API", "EVL"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.72, 0.93),  # seeds 0-9: 0.790 to 0.878, standard deviation 0.029
    steps=200,
    small={"steps": 6, "batch": 16, "channels": (6, 8, 10), "warmup": 2},
    probes=12,
    exports=(
        "Reader",
        "channel_statistics",
        "channels_first",
        "crew",
        "decode",
        "for_training",
        "learning_rate",
        "normalise",
        "one_pass",
        "random_contrast",
        "random_hole",
        "random_warp",
        "resize",
        "unpack",
        "views",
        "warp",
    ),
    cpu_seconds=3.0,
)
