"""The judge's side of `mlm-bert`: sentences in which the judge hides words; the answers stay here."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bughunt.references.data import grammar
from bughunt.task import Data, Measurement, Model, Program, Task

TEXTS, HELD_OUT = 3000, 500
MASK = len(grammar.WORDS)


def _data(seed: int) -> Data:
    texts = grammar.corpus(HELD_OUT, 2 * seed + 1)
    rng = torch.Generator().manual_seed(seed)
    hidden = torch.rand(texts.shape, generator=rng) < 0.15
    hidden[:, 0] = False
    hidden[:, 1] |= ~hidden.any(dim=1)
    shown = texts.masked_fill(hidden, MASK)
    held_out = {"shown": shown, "hidden": hidden, "texts": texts}
    return Data(train=grammar.corpus(TEXTS, 2 * seed), held_out=held_out)


def _measure(program: Program, model: Model, held_out: dict[str, Tensor]) -> Measurement:
    """The surprise at the hidden words in nats, and the share that is guessed."""
    answers = torch.as_tensor(program.predict(model, held_out["shown"])).double()
    asked, truth = answers[held_out["hidden"]], held_out["texts"][held_out["hidden"]]
    right = (asked.argmax(dim=1) == truth).double().mean().item()
    return Measurement(curve=F.nll_loss(asked, truth).item(), metric=right)


TASK = Task(
    slug="mlm-bert",
    title="Masked language model",
    kind="language-model",
    topics=("S24", "S77"),
    categories=("MSK", "LOS", "DAT", "IDX", "EVL"),
    data=_data,
    measure=_measure,
    curve_name="surprise at hidden words",
    metric_name="hidden words guessed",
    metric_higher_is_better=True,
    band=(0.65, 0.76),  # seeds 0-9: 0.686 to 0.722, standard deviation 0.011
    steps=240,
    small={"steps": 8, "batch": 12, "warmup": 2},
    probes=14,
    exports=("attend", "batches", "corrupt", "learning_rate", "loss"),
    cpu_seconds=3.0,
)
