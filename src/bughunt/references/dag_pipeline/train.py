"""From tables of events to a fitted model, as a graph of steps that are made only when something has changed.

The other files: `graph` (what comes after what), `runner` (what has to be made, and making it) and `features`
(what was known at the time). Nothing is trained in steps; `assemble` is the pipeline that one meets at work.
"""

from typing import Any

import numpy as np
from features import as_of, clean, fill, missing_days, rolling_mean
from graph import consumers, levels, needed_for, order, stale_after
from runner import Runner, Step, fingerprint, key_of

__all__ = [
    "Runner",
    "Step",
    "as_of",
    "assemble",
    "clean",
    "consumers",
    "fill",
    "fingerprint",
    "fit",
    "key_of",
    "levels",
    "missing_days",
    "needed_for",
    "order",
    "play",
    "rolling_mean",
    "stale_after",
]


def split(labels: list[tuple[str, int, float]], cut: int) -> dict[str, list]:
    """Rows of before the day of the cut to learn from, the others to score on."""
    return {
        "before": [row for row in labels if row[1] < cut],
        "after": [row for row in labels if row[1] >= cut],
    }


def features(rows: dict[str, list], events: list, delay: int, oldest: int, days: int) -> dict[str, list]:
    """Two features for each row; gaps are filled with what was known of the rows before the cut."""
    made: dict[str, list] = {}
    columns = {}
    for part, labels in rows.items():
        questions = [(entity, time) for entity, time, _ in labels]
        columns[part] = (
            as_of(questions, events, delay, oldest),
            rolling_mean(questions, events, days),
        )
    for part, pair in columns.items():
        filled = [fill(column, known) for column, known in zip(pair, columns["before"], strict=True)]
        made[part] = [list(row) for row in zip(*filled, strict=True)]
    return made


def fit(points: list, targets: list[float], penalty: float) -> list[float]:
    """Ridge regression: a weight for each feature, and an offset that is not penalised."""
    x, y = np.array(points, dtype=float), np.array(targets, dtype=float)
    centre, mean = x.mean(axis=0), y.mean()
    gram = (x - centre).T @ (x - centre) + penalty * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, (x - centre).T @ (y - mean))
    return [*weights.tolist(), float(mean - weights @ centre)]


def model(rows: dict[str, list], made: dict[str, list], penalty: float) -> list[float]:
    return fit(made["before"], [label for _, _, label in rows["before"]], penalty)


def report(rows: dict[str, list], made: dict[str, list], weights: list[float]) -> dict[str, float]:
    """The mean squared error on rows of after the cut, and that of the mean of those before."""
    answers = [float(np.dot(weights[:-1], point)) + weights[-1] for point in made["after"]]
    truth = [label for _, _, label in rows["after"]]
    usual = float(np.mean([label for _, _, label in rows["before"]]))
    return {
        "error": float(np.mean([(a - b) ** 2 for a, b in zip(answers, truth, strict=True)])),
        "baseline": float(np.mean([(usual - b) ** 2 for b in truth])),
    }


def assemble(events: list, labels: list, settings: dict[str, Any]) -> dict[str, Step]:
    """The steps of the pipeline; each has the settings that it depends on and no others."""
    window = {name: settings[name] for name in ("delay", "oldest", "days")}
    return {
        "events": Step(clean, (), {"events": events}),
        "rows": Step(split, (), {"labels": labels, "cut": settings["cut"]}),
        "features": Step(features, ("rows", "events"), window),
        "model": Step(model, ("rows", "features"), {"penalty": settings["penalty"]}),
        "report": Step(report, ("rows", "features", "model")),
    }


def play(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the pipeline several times with one memory: results, and what each run had to do."""
    runner = Runner({})
    found = []
    for run in runs:
        runner.steps, runner.log = assemble(run["events"], run["labels"], run["settings"]), []
        results = runner.run(*run.get("wanted", ()))
        found.append({"results": results, "log": list(runner.log)})
    return found
