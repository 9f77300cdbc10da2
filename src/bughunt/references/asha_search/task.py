"""The judge's side of `asha-search`: the search is a function, the behaviour tests are the verdict."""

from bughunt.task import toolkit

TASK = toolkit(
    "asha-search",
    "A search that gives up early",
    kind="optimiser",
    topics=("S2", "S32", "S33"),
    categories=("ALG", "STA", "RNG", "EVL", "IDX"),
    exports=("draw", "rungs", "promoted", "log_chances", "loss", "Register", "search"),
)
