"""The judge's side of `optim-zoo`: glyphs sorted by class, log-probabilities scored on others."""

import torch
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TRAIN_ROWS = 1500
HELD_OUT_ROWS = 1000


def data(seed: int) -> Data:
    return Data(
        train=glyphs(TRAIN_ROWS, 2 * seed, ordered=True),
        held_out=glyphs(HELD_OUT_ROWS, 2 * seed + 1),
    )


def measure(program: Program, model: Model, held_out: Value) -> Measurement:
    answers = torch.as_tensor(program.predict(model, held_out["images"]))
    labels = held_out["labels"]
    loss = F.nll_loss(answers.float(), labels).item()
    accuracy = (answers.argmax(dim=1) == labels).double().mean().item()
    return Measurement(curve=loss, metric=accuracy)


TASK = Task(
    slug="optim-zoo",
    title="Optimiser zoo",
    kind="optimiser",
    topics=("S1", "S9", "S66", "S75"),
    categories=("OPT", "STA", "NUM", "GRD", "API"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.75, 0.85),  # seeds 0-9, all optimisers: 0.772 to 0.826
    steps=300,
    configurations={
        "default": {},  # AdamW
        "adam": {"optimizer": "adam", "weight_decay": 0.0, "peak_lr": 0.01},
        "rmsprop": {"optimizer": "rmsprop", "weight_decay": 0.0, "peak_lr": 0.005},
        "nesterov": {"optimizer": "nesterov", "weight_decay": 0.0, "peak_lr": 0.1},
        "momentum": {"optimizer": "momentum", "weight_decay": 0.0, "peak_lr": 0.1},
        "sgd": {"optimizer": "sgd", "weight_decay": 0.0, "peak_lr": 0.7},
    },
    small={"steps": 12, "batch": 16, "features": 16},
    exports=("replay", "learning_rate", "clip_gradients", "batches"),
    cpu_seconds=0.2,
)
