"""The judge's side of `metrics-kit`: no training, the behaviour of each function is the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "metrics-kit",
    "Metrics kit",
    topics=("S1", "S2", "S8", "S16", "S36", "S55", "S63", "S75", "S78"),
    categories=("EVL", "IDX", "NUM", "SHP"),
    exports=(
        "confusion",
        "precision_recall_f1",
        "intersection_over_union",
        "matthews",
        "top_k_accuracy",
        "roc_curve",
        "roc_auc",
        "average_precision",
        "reciprocal_rank",
        "ndcg",
        "log_loss",
        "brier",
        "calibration_error",
        "bleu",
        "edit_distance",
        "perplexity",
        "evaluate",
        "stream",
        "bootstrap",
    ),
)
