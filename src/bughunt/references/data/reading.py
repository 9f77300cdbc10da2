"""Reading glyphs: the data and the measurement that several tasks share.

Rows come sorted by class, so that a program which does not shuffle learns badly.
"""

import torch
from torch.nn import functional as F

from bughunt.references.data.glyphs import glyphs
from bughunt.task import Data, Measurement, Model, Program, Value

TRAIN_ROWS = 1500
HELD_OUT_ROWS = 1000


def data(seed: int) -> Data:
    return Data(
        train=glyphs(TRAIN_ROWS, 2 * seed, ordered=True),
        held_out=glyphs(HELD_OUT_ROWS, 2 * seed + 1),
    )


def measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The mean negative log-likelihood of unseen rows in nats, and the accuracy."""
    answers = torch.as_tensor(program.predict(model, held_out["images"]))
    labels = held_out["labels"]
    loss = F.nll_loss(answers.float(), labels).item()
    accuracy = (answers.argmax(dim=1) == labels).double().mean().item()
    return Measurement(curve=loss, metric=accuracy)
