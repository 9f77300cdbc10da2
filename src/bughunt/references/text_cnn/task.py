"""The judge's side of `text-cnn`: reviews in which a negation turns the verdict round, sorted by class."""

import math
import random

import torch
from torch.nn import functional as F

from bughunt.task import Data, Measurement, Model, Program, Task, Value

PRAISE = ("good", "great", "fine", "superb", "funny", "moving", "clever", "bright")
BLAME = ("bad", "awful", "poor", "dull", "ugly", "broken", "silly", "bland")
PLAIN = ("the", "a", "it", "was", "this", "that", "film", "book", "and", "so", "plot", "actor", "we", "saw")
SOFTENERS = ("very", "really", "quite")
TURNERS = ("not", "never", "hardly")
MISLABELLED = 0.05
FLOOR = -(MISLABELLED * math.log(MISLABELLED) + (1 - MISLABELLED) * math.log(1 - MISLABELLED))
TRAINED, HELD_OUT = 1500, 800


def _name(rng: random.Random) -> str:
    """A name that hardly ever comes twice."""
    return "".join(rng.choices("bdfgklmnprst", k=2)) + "".join(rng.choices("aeiou", k=2)) + rng.choice("nrs")


def review(rng: random.Random) -> tuple[str, int]:
    """A text of 4 to 21 words, and 1 where it praises; a few labels are wrong."""
    label, turned = rng.randrange(2), rng.random() < 0.45
    verdict = [rng.choice(PRAISE if (label == 1) != turned else BLAME)]
    if rng.random() < 0.4:
        verdict.insert(0, rng.choice(SOFTENERS))
    if turned:
        verdict.insert(0, rng.choice(TURNERS))
    filler = [_name(rng) if rng.random() < 0.15 else rng.choice(PLAIN) for _ in range(rng.randint(3, 18))]
    if not turned:  # a negation that turns nothing round
        filler[0] = rng.choice(TURNERS) if rng.random() < 0.6 else filler[0]
    place = rng.randint(1, len(filler))
    words = [*filler[:place], *verdict, *filler[place:]] if turned else [*filler, *verdict]
    text = " ".join(words).capitalize() + rng.choice((".", " !", "...", ""))
    return text, label ^ (rng.random() < MISLABELLED)


def reviews(count: int, seed: int) -> dict[str, Value]:
    rng = random.Random(seed)
    texts, labels = zip(*(review(rng) for _ in range(count)), strict=True)
    return {"texts": list(texts), "labels": torch.tensor(labels)}


def _data(seed: int) -> Data:
    train = reviews(TRAINED, 2 * seed)
    order = train["labels"].argsort(stable=True)
    ordered = {"texts": [train["texts"][i] for i in order.tolist()], "labels": train["labels"][order]}
    return Data(train=ordered, held_out=reviews(HELD_OUT, 2 * seed + 1))


def _measure(program: Program, model: Model, held_out: dict[str, Value]) -> Measurement:
    answers = torch.as_tensor(program.predict(model, held_out["texts"])).float()
    labels = held_out["labels"]
    accuracy = (answers.argmax(dim=1) == labels).double().mean().item()
    return Measurement(curve=F.nll_loss(answers, labels).item(), metric=accuracy)


TASK = Task(
    slug="text-cnn",
    title="Text classifier",
    kind="classifier",
    topics=("S41", "S61", "S77"),
    categories=("MSK", "IDX", "DAT", "EVL", "API"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss",
    metric_name="held-out accuracy",
    metric_higher_is_better=True,
    band=(0.9, 0.97),  # seeds 0-9: 0.934 to 0.954, standard deviation 0.006
    steps=240,
    small={"steps": 8, "batch": 30, "embedding": 8, "channels": 6},
    floor=0.15,
    exports=("tokenise", "vocabulary", "encode", "collate", "batches"),
    cpu_seconds=0.6,
)
