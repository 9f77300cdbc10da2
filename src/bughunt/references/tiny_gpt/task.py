"""The judge's side of tiny-gpt: next-token prediction on a source of known entropy.

The program is asked with prefixes, one length at a time, so that no answer is ever part of the
question. Its answer is compared with the true distribution, not with one sampled token: the
cross-entropy is then free of sampling noise, and no honest model gets below the floor.
"""

import math

import torch

from bughunt.references.data import grammar
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TEXTS = 4000
HELD_OUT = 24  # prefixes of each length
LENGTHS = range(1, grammar.LENGTH)


def data(seed: int) -> Data:
    """Texts to train on, and others to take prefixes from."""
    texts = grammar.corpus(HELD_OUT * len(LENGTHS), 2 * seed + 1)
    rows = texts.split(HELD_OUT)
    prefixes = [row[:, :length] for row, length in zip(rows, LENGTHS, strict=True)]
    held_out = [(prefix, grammar.following(prefix)) for prefix in prefixes]
    return Data(train=grammar.corpus(TEXTS, 2 * seed), held_out=held_out)


def measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The cross-entropy with the source in nats a token, and its exponential, the perplexity."""
    total = 0.0
    for prefix, truth in held_out:
        answer = torch.as_tensor(program.predict(model, prefix)).cpu().double()
        if answer.shape != truth.shape:
            raise ValueError(f"expected {tuple(truth.shape)}, got {tuple(answer.shape)}")
        surprise = -answer.masked_fill(truth == 0, 0.0)
        total += float((truth * surprise).sum(dim=1).mean())
    nats = total / len(held_out)
    return Measurement(curve=nats, metric=math.exp(min(nats, 50.0)))


TASK = Task(
    slug="tiny-gpt",
    title="Decoder-only GPT",
    kind="language-model",
    topics=("S3", "S15", "S18", "S24", "S40", "S60", "S65", "S67"),
    categories=("MSK", "LOS", "IDX", "SHP", "OPT", "INI", "STA", "NUM", "GRD"),
    data=data,
    measure=measure,
    curve_name="held-out loss",
    metric_name="perplexity",
    metric_higher_is_better=False,
    band=(1.93, 2.25),  # seeds 0-9: 2.091 to 2.143; the source's own is 1.936
    steps=250,
    small={"steps": 40, "batch": 16},
    probes=20,
    floor=grammar.ENTROPY,
    exports=("attend",),
    cpu_seconds=3.0,
)
