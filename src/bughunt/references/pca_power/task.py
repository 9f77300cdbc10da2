"""The judge's side of `pca-power`: a long cloud far from the origin, whose variances fall slowly."""

import numpy as np
from numpy.typing import NDArray

from bughunt.task import Data, Measurement, Model, Program, Task, Value

Array = NDArray[np.float64]

FEATURES, COMPONENTS = 12, 4
TRAINED, HELD_OUT = 500, 800
SPREADS = 3.0 * 0.82 ** np.arange(FEATURES)


def _data(seed: int) -> Data:
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))
    points = rng.normal(size=(TRAINED + HELD_OUT, FEATURES)) * SPREADS @ axes.T
    points += 6.0 * rng.normal(size=FEATURES)
    return Data(train=points[:TRAINED], held_out=points[TRAINED:])


def left_over(points: Array) -> float:
    """The squared distance from the points to the flat of `COMPONENTS` directions that suits them best."""
    values = np.linalg.eigvalsh(np.cov(points.T)) * (len(points) - 1)
    return float(values[:-COMPONENTS].sum())


def _measure(program: Program, model: Model, held_out: Value) -> Measurement:
    """What is lost of unseen points, over the least that can be, and the share of variance that is kept."""
    lost = float(((np.asarray(program.predict(model, held_out)) - held_out) ** 2).sum())
    total = float(((held_out - held_out.mean(axis=0)) ** 2).sum())
    return Measurement(curve=lost / left_over(held_out), metric=1 - lost / total)


TASK = Task(
    slug="pca-power",
    title="Principal components",
    kind="reduction",
    topics=("S10", "S39", "S62"),
    categories=("NRM", "NUM", "SHP", "ALG"),
    data=_data,
    measure=_measure,
    curve_name="held-out loss of detail",
    metric_name="explained variance",
    metric_higher_is_better=True,
    band=(0.77, 0.83),  # seeds 0-9: 0.791 to 0.808
    steps=120,
    small={"steps": 13},
    probes=40,
    floor=0.99,  # of the best flat, which only the held-out points themselves would tell
    rng="numpy",
    exports=(
        "covariance",
        "power_step",
        "deflate",
        "fix_sign",
        "by_svd",
        "by_gram",
        "enough",
        "transform",
        "inverse",
        "whiten",
    ),
    cpu_seconds=0.1,
)
