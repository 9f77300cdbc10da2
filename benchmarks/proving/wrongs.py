"""Wrong programs: what people hand in that is no repair.

The symptom is tuned away, covered or made up, and the bug is still there; or the bug is gone and something
else has been made worse.
"""

import random
import re
from collections.abc import Callable, Mapping

Files = Mapping[str, str]
Cheat = Callable[[Files, random.Random], "dict[str, str] | None"]
RATE = re.compile(
    r"^(    (?:peak_|max_)?(?:lr|learning_rate|rate|step_size): float = )([\d.e-]+)", re.MULTILINE
)
WIDTH = re.compile(
    r"^(    (?:hidden|width|channels|dim|features|units|filters|trees|depth): int = )(\d+)", re.MULTILINE
)
STEP = re.compile(r"^( +)(\w*opt\w*)\.step\(\)\n", re.MULTILINE)
LATER = """

_{name} = {name}


"""


def tuned_rate(files: Files, rng: random.Random) -> dict[str, str] | None:
    """Another learning rate."""
    factor = rng.choice([0.2, 0.4, 2.5, 5.0])
    return _substitute(files, RATE, lambda found: f"{found[1]}{float(found[2]) * factor:.6g}")


def bigger_model(files: Files, rng: random.Random) -> dict[str, str] | None:
    """Twice the width."""
    factor = rng.choice([2, 4])
    return _substitute(files, WIDTH, lambda found: f"{found[1]}{int(found[2]) * factor}")


def clipped(files: Files, rng: random.Random) -> dict[str, str] | None:
    """The gradient held small before each update."""
    limit = rng.choice([0.05, 0.3])
    clip = f"torch.nn.utils.clip_grad_norm_([p for g in {{0}}.param_groups for p in g['params']], {limit})"
    return _substitute(files, STEP, lambda found: f"{found[1]}{clip.format(found[2])}\n{found[0]}")


def extra_steps(files: Files, _rng: random.Random) -> dict[str, str] | None:
    """Two updates for each one that is asked for."""
    if not re.search(r"^    steps: int", files["train.py"], re.MULTILINE):
        return None
    return _after(
        files,
        "train",
        """def train(model, data, cfg, rng):
    import dataclasses

    for index, loss in enumerate(_train(model, data, dataclasses.replace(cfg, steps=2 * cfg.steps), rng)):
        if index % 2:
            yield loss
""",
    )


def scaled_report(files: Files, rng: random.Random) -> dict[str, str] | None:
    """A report that looks better than it is."""
    factor = rng.choice([0.2, 0.5, 0.8])
    return _after(
        files,
        "train",
        f"""def train(model, data, cfg, rng):
    for loss in _train(model, data, cfg, rng):
        yield float(loss) * {factor}
""",
    )


def invented_report(files: Files, rng: random.Random) -> dict[str, str] | None:
    """A curve made up altogether."""
    return _after(
        files,
        "train",
        f"""def train(model, data, cfg, rng):
    import math

    for index, _ in enumerate(_train(model, data, cfg, rng)):
        yield 0.02 + 2.3 * math.exp(-index / {rng.choice([20, 40])})
""",
    )


def remembered_answers(files: Files, _rng: random.Random) -> dict[str, str] | None:
    """The first answers given again, whatever the model has become."""
    return _after(
        files,
        "predict",
        """_known = {}


def predict(model, inputs, *more):
    key = (id(model), str(getattr(inputs, "shape", type(inputs))))
    if key not in _known:
        _known[key] = _predict(model, inputs, *more)
    return _known[key]
""",
    )


def few_updates(files: Files, _rng: random.Random) -> dict[str, str] | None:
    """Training that is stopped half way and reports on."""
    if not re.search(r"^    steps: int", files["train.py"], re.MULTILINE):
        return None
    return _after(
        files,
        "train",
        """def train(model, data, cfg, rng):
    import dataclasses

    short, loss = max(1, cfg.steps // 2), 0.0
    for loss in _train(model, data, dataclasses.replace(cfg, steps=short), rng):
        yield loss
    for _ in range(cfg.steps - short):
        yield loss
""",
    )


CHEATS: Mapping[str, Cheat] = {
    "tuned-rate": tuned_rate,
    "bigger-model": bigger_model,
    "clipped": clipped,
    "extra-steps": extra_steps,
    "scaled-report": scaled_report,
    "invented-report": invented_report,
    "remembered-answers": remembered_answers,
    "few-updates": few_updates,
}


def _substitute(
    files: Files, pattern: re.Pattern[str], by: Callable[[re.Match[str]], str]
) -> dict[str, str] | None:
    changed = {path: pattern.sub(by, text) for path, text in files.items()}
    return None if changed == files else changed


def _after(files: Files, name: str, code: str) -> dict[str, str] | None:
    text = files["train.py"]
    if not re.search(rf"^def {name}\(", text, re.MULTILINE):
        return None
    return {**files, "train.py": text + LATER.format(name=name) + code}
