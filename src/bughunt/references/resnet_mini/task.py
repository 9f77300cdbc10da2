"""The judge's side of `resnet-mini`: glyphs sorted by class, log-probabilities scored on others."""

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
    slug="resnet-mini",
    title="Residual CNN",
    kind="classifier",
    topics=("S3", "S18", "S23", "S26", "S40", "S67"),
    categories=("SHP", "NRM", "INI", "GRD", "API", "LOS"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.93, 0.99),  # seeds 0-9: 0.952 to 0.973, standard deviation 0.007
    steps=200,
    small={"steps": 6, "batch": 16, "channels": (6, 10)},
    exports=("batches", "convolve", "learning_rate", "Conv", "BatchNorm", "Block"),
    cpu_seconds=2.5,
)
