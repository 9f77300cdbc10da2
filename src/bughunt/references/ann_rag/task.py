"""The judge's side of `ann-rag`: nothing is trained in steps, the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "ann-rag",
    "Passages for a question",
    kind="retrieval",
    topics=("S12", "S38", "S41", "S68"),
    categories=("ALG", "IDX", "PRF", "EVL", "NUM"),
    exports=(
        "chunks",
        "tokens",
        "rarity",
        "embed",
        "normalise",
        "nearest",
        "centres",
        "build_index",
        "recall",
        "spread",
        "passages",
    ),
)
