"""The judge's side of `trainer-loop`: glyphs sorted by class, log-probabilities scored on others."""

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
    slug="trainer-loop",
    title="Training loop",
    kind="classifier",
    topics=("S3", "S27", "S57", "S59", "S67", "S79"),
    categories=("DAT", "NRM", "GRD", "OPT", "EVL", "RNG", "STA"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.78, 0.88),  # seeds 0-9: 0.808 to 0.850, standard deviation 0.014
    steps=400,
    small={"steps": 8, "batch": 16, "features": 24},
    exports=("split", "batches", "evaluate", "update_average", "EarlyStopping"),
    cpu_seconds=0.5,
)
