"""The judge's side of `drift-monitor`: no training in steps, the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "drift-monitor",
    "Watching a model in service",
    kind="system",
    topics=("S2", "S4", "S36", "S58"),
    categories=("SYS", "EVL", "IDX", "STA", "DAT"),
    exports=(
        "edges",
        "shares",
        "stability_index",
        "distance",
        "drifted",
        "fit",
        "answers",
        "accuracy",
        "fit_and_check",
        "put_into_service",
        "watch",
    ),
)
