"""The judge's side of `cv-harness`: nothing is trained in steps, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "cv-harness",
    "Cross-validation",
    topics=("S2", "S32", "S78"),
    categories=("DAT", "EVL", "RNG", "IDX"),
    exports=(
        "k_fold",
        "stratified",
        "grouped",
        "by_time",
        "scaler",
        "screen",
        "fit",
        "score",
        "accuracy",
        "cross_validate",
        "summary",
        "choose",
        "nested",
        "permutation_test",
    ),
)
