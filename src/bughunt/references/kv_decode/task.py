"""The judge's side of `kv-decode`: nothing is trained, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "kv-decode",
    "Decoding with a cache",
    kind="system",
    topics=("S7", "S34", "S60", "S68", "S70"),
    categories=("STA", "IDX", "NUM", "GEN", "ALG", "PRF"),
    exports=(
        "build",
        "logits",
        "complete",
        "beam_answers",
        "score",
        "sampling.penalised",
        "sampling.top_k",
        "sampling.top_p",
    ),
    cpu_seconds=0.1,
)
