"""The judge's side of `seq2seq-attn`: dates that were never seen."""

from bughunt.references.data import dates
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TRAINED, HELD_OUT = 3000, 220
MARGIN = 0.01  # added to the share of wrong characters, so that the curve stays above zero


def _data(seed: int) -> Data:
    texts, answers = dates.dates(TRAINED, 2 * seed)
    unseen = dates.dates(HELD_OUT, 2 * seed + 1)
    return Data(train={"texts": texts, "answers": answers}, held_out=unseen)


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """The share of wrong characters, and of answers that are right throughout."""
    texts, answers = held_out
    wrong = total = right = 0
    for given, answer in zip(program.predict(model, texts), answers, strict=True):
        agreed = sum(one == other for one, other in zip(given, answer, strict=False))
        total += max(len(given), len(answer))
        wrong += max(len(given), len(answer)) - agreed
        right += given == answer
    return Measurement(curve=MARGIN + wrong / total, metric=right / len(texts))


TASK = Task(
    slug="seq2seq-attn",
    title="Sequence to sequence with attention",
    kind="sequence",
    topics=("S18", "S65", "S74", "S77"),
    categories=("MSK", "IDX", "LOS", "STA", "SHP", "DAT"),
    data=_data,
    measure=_measure,
    curve_name="wrong characters",
    metric_name="exact answers",
    metric_higher_is_better=True,
    band=(0.82, 1.0),  # seeds 0-9: 0.877 to 0.973
    steps=130,
    small={"steps": 12, "batch": 20, "hidden": 12, "state": 18},
    probes=15,
    exports=("batches", "text.collate", "text.decode_target", "attention.Attention", "model.Encoder"),
    cpu_seconds=3.6,
)
