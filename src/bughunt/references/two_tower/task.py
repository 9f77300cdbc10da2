"""The judge's side of `two-tower`: what will each user pick next?"""

import torch

from bughunt.references.data import tastes
from bughunt.task import Data, Measurement, Model, Program, Task, Value

TOP = 20
NEVER = -30.0  # the score of an item that a program rules out


def _data(seed: int) -> Data:
    made = tastes.world(seed)
    return Data(train=made.past, held_out=made.latest)


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """Surprise at the latest picks in nats, and how many of them are among the best twenty."""
    scores = torch.as_tensor(program.predict(model, torch.arange(tastes.USERS))).cpu().double()
    if scores.shape != (tastes.USERS, tastes.ITEMS):
        raise ValueError(f"expected {(tastes.USERS, tastes.ITEMS)}, got {tuple(scores.shape)}")
    ranked = scores.nan_to_num(nan=-torch.inf).topk(TOP, dim=1).indices
    found = (ranked[:, :, None] == held_out[:, None, :]).any(dim=1).double().mean()
    odds = scores.log_softmax(dim=1).clamp(min=NEVER)
    return Measurement(curve=float(-odds.gather(1, held_out).mean()), metric=float(found))


TASK = Task(
    slug="two-tower",
    title="Two-tower retrieval",
    kind="retrieval",
    topics=("S4", "S41", "S57", "S68"),
    categories=("LOS", "IDX", "DAT", "EVL", "SHP", "RNG"),
    data=_data,
    measure=_measure,
    curve_name="surprise at picks",
    metric_name="recall at 20",
    metric_higher_is_better=True,
    band=(0.41, 0.56),  # seeds 0-9: 0.454 to 0.494
    steps=230,
    small={"steps": 30, "batch": 100, "channels": 10},
    exports=(
        "interactions.in_order",
        "interactions.split_by_time",
        "interactions.recent_before",
        "interactions.recent_at_end",
        "interactions.seen",
        "interactions.log_frequency",
        "losses.in_batch_softmax",
        "metrics.ranking",
        "metrics.recall",
        "metrics.ndcg",
        "evaluate",
        "batches",
    ),
    cpu_seconds=0.7,
)
