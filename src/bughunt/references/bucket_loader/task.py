"""The judge's side of `bucket-loader`: nothing is trained, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "bucket-loader",
    "Batches of unlike lengths",
    topics=("S6", "S15", "S28", "S55", "S63", "S64", "S67", "S70", "S74"),
    categories=("IDX", "MSK", "RNG", "DAT", "PRF", "API"),
    exports=(
        "shuffled",
        "weighted",
        "balanced_weights",
        "chunks",
        "bucketed",
        "budgeted",
        "padding_share",
        "truncate",
        "pad",
        "collate",
        "one_pass",
        "shifted",
        "masked_mean",
        "restore",
        "pack",
        "same_owner",
    ),
)
