"""What a run is set to, and which of it has to be the same when the run is taken up again."""

import hashlib
import json
from dataclasses import asdict, dataclass

PLACES = frozenset({"folder", "save_every", "best", "resume", "steps"})  # say nothing about the numbers


@dataclass(frozen=True, kw_only=True)
class Config:
    pixels: int = 144
    hidden: int = 52
    classes: int = 10
    dropout: float = 0.15
    validation: float = 0.12
    batch: int = 36
    steps: int = 300
    lr: float = 5e-3
    weight_decay: float = 0.02
    decay: float = 0.93  # of the moving average
    evaluate_every: int = 15
    patience: int = 2  # evaluations without progress before the rate is cut
    cut: float = 0.4
    folder: str = "checkpoints"
    save_every: int = 30
    best: int = 3  # checkpoints beside the latest
    resume: bool = False


def fingerprint(cfg: Config) -> str:
    """The same for two settings under which a run goes the same way."""
    telling = {name: value for name, value in asdict(cfg).items() if name not in PLACES}
    return hashlib.sha256(json.dumps(telling, sort_keys=True).encode()).hexdigest()[:16]
