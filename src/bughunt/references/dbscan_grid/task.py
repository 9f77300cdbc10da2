"""The judge's side of `dbscan-grid`: nothing is trained, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "dbscan-grid",
    "DBSCAN on a grid",
    kind="clustering",
    topics=("S6", "S10", "S12", "S38", "S39"),
    categories=("ALG", "IDX", "PRF"),
    exports=(
        "neighbourhoods",
        "core_points",
        "components",
        "dbscan",
        "knee",
        "adjusted_rand",
    ),
)
