"""The judge's side of `sgns-embed`: do words of one topic lie together?"""

import torch

from bughunt.references.data import topics
from bughunt.task import Data, Measurement, Model, Program, Task, Value

SENTENCES = 1600
NEAREST = 5
SHARPNESS = 8.0  # of the softmax over similarities


def _data(seed: int) -> Data:
    words = torch.arange(topics.COMMON, topics.VOCABULARY)
    return Data(train=topics.sentences(SENTENCES, seed), held_out=words)


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """How surprising it is that a similar word is of the same topic, and how many of the nearest five are."""
    vectors = torch.as_tensor(program.predict(model, held_out)).cpu().double()
    alike = torch.nn.functional.normalize(vectors, dim=1) @ torch.nn.functional.normalize(vectors, dim=1).T
    alike.fill_diagonal_(-torch.inf)
    topic = topics.topic_of(held_out)
    same = topic[:, None] == topic
    nearest = alike.topk(NEAREST, dim=1).indices
    purity = same.gather(1, nearest).double().mean()
    odds = (SHARPNESS * alike).softmax(dim=1)
    surprise = -(odds * same).sum(dim=1).clamp_min(1e-12).log().mean()
    return Measurement(curve=float(surprise), metric=float(purity))


TASK = Task(
    slug="sgns-embed",
    title="Skip-gram embeddings",
    kind="embedding",
    topics=("S57", "S77"),
    categories=("LOS", "IDX", "RNG", "NUM", "DAT"),
    data=_data,
    measure=_measure,
    curve_name="surprise at neighbours",
    metric_name="topic purity",
    metric_higher_is_better=True,
    band=(0.88, 1.0),  # seeds 0-9: 0.926 to 0.982
    steps=360,
    small={"steps": 40, "batch": 200, "channels": 9},
    exports=("shares", "keep_chance", "noise_law", "pairs", "loss", "batches", "neighbours"),
    cpu_seconds=0.8,
)
