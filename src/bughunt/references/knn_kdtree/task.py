"""The judge's side of `knn-kdtree`: nothing is trained, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "knn-kdtree",
    "Nearest neighbours in a tree",
    topics=("S1", "S6", "S12", "S38", "S43", "S56"),
    categories=("ALG", "IDX", "PRF", "EVL"),
    exports=(
        "build_tree",
        "depth",
        "query",
        "within",
        "standardise",
        "vote",
        "classify",
        "leave_one_out",
    ),
)
