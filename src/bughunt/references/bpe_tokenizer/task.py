"""The judge's side of `bpe-tokenizer`: how short unseen text becomes, if it can be read back."""

from bughunt.references.data import prose
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TRAINED, HELD_OUT = 120, 16


def _data(seed: int) -> Data:
    return Data(train=prose.texts(TRAINED, 2 * seed), held_out=prose.texts(HELD_OUT, 2 * seed + 1))


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """Tokens per byte, and bytes per token; a text that does not come back counts as its bytes, twice."""
    tokens = size = 0
    for text, row in zip(held_out, program.predict(model, held_out), strict=True):
        length = len(text.encode())
        size += length
        tokens += len(row) if program.call("decode", model, row) == text else 2 * length
    return Measurement(curve=tokens / size, metric=size / max(tokens, 1))


TASK = Task(
    slug="bpe-tokenizer",
    title="Byte-pair encoding",
    kind="toolkit",
    topics=("S41", "S77"),
    categories=("ALG", "IDX", "STA", "PRF", "DAT"),
    data=_data,
    measure=_measure,
    curve_name="tokens per byte",
    metric_name="bytes per token",
    metric_higher_is_better=True,
    band=(3.4, 4.0),  # seeds 0-9: 3.59 to 3.80
    steps=300,
    small={"steps": 40},
    scale="raw",
    rng="numpy",
    exports=("decode", "encode", "vocabulary", "collate"),
    cpu_seconds=1.0,
)
