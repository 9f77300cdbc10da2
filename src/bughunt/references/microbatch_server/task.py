"""The judge's side of `microbatch-server`: nothing is trained, so the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "microbatch-server",
    "A server that answers in batches",
    kind="system",
    topics=("S4", "S6", "S28", "S34", "S37", "S58", "S63"),
    categories=("SYS", "ALG", "IDX", "STA", "PRF"),
    exports=(
        "Cache",
        "Policy",
        "Request",
        "burnt",
        "cost",
        "latencies",
        "look_up",
        "merged",
        "nightly",
        "percentile",
        "poisson",
        "requests_at",
        "respond",
        "serve",
        "simulate",
        "smallest_wait",
        "summary",
        "take",
    ),
)
