"""The judge's side of `dag-pipeline`: nothing is trained, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "dag-pipeline",
    "A pipeline of steps",
    kind="system",
    topics=("S1", "S4", "S6", "S30", "S31", "S37", "S38", "S61", "S63"),
    categories=("ALG", "SYS", "DAT", "STA", "IDX"),
    exports=(
        "Runner",
        "Step",
        "as_of",
        "clean",
        "consumers",
        "fill",
        "fingerprint",
        "fit",
        "levels",
        "missing_days",
        "needed_for",
        "order",
        "play",
        "rolling_mean",
        "stale_after",
        "key_of",
    ),
)
