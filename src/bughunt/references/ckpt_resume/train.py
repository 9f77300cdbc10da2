"""A run that may be interrupted at any update and goes on as if nothing had happened.

The other files: `settings` (what a run is set to), `network` (weights and their moving average), `progress`
(place in the data, learning rate), `snapshot` (all of that as one dict) and `store` (a folder of such dicts).

Shapes: N rows, B rows in a batch, K classes.
"""

from collections.abc import Iterator

import torch
from network import Pair, Reader
from progress import Plateau, Sampler
from settings import Config, fingerprint
from snapshot import MismatchError, capture, restore
from store import Store
from torch import Generator, Tensor
from torch.nn import functional as F

__all__ = ["Config", "MismatchError", "build", "fingerprint", "predict", "split", "train"]

Rows = tuple[Tensor, Tensor]  # images [N, height, width], labels [N]


def build(cfg: Config) -> Pair:
    return Pair(cfg)


def split(data: dict[str, Tensor], cfg: Config) -> tuple[Rows, Rows]:
    """Rows to learn from and rows to validate on, the same in every run: every so-manyeth row is held out."""
    count = len(data["labels"])
    every = max(2, round(1 / cfg.validation))
    held = torch.arange(count, device=data["labels"].device) % every == every - 1
    return (data["images"][~held], data["labels"][~held]), (data["images"][held], data["labels"][held])


@torch.no_grad()
def evaluate(model: Reader, rows: Rows) -> float:
    """The mean loss; the model is left in the mode that it was in."""
    training = model.training
    model.eval()
    loss = F.cross_entropy(model(rows[0]), rows[1]).item()
    model.train(training)
    return loss


def update(model: Pair, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    model.fast.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model.fast(images), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def train(model: Pair, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item; with `resume`, those that the latest checkpoint does not have.

    At the end the best weights of all checkpoints are in the model.
    """
    learn, held_out = split(data, cfg)
    optimizer = torch.optim.AdamW(model.fast.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    plateau = Plateau(cfg.lr, cfg.cut, cfg.patience)
    sampler = Sampler(len(learn[1]), cfg.batch, rng)
    store = Store(cfg.folder, cfg.best)
    done = 0
    if not cfg.resume:
        store.clear()
    elif (state := store.latest()) is not None:
        done = restore(state, model, optimizer, plateau, sampler, cfg)
    for step in range(done + 1, cfg.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = plateau.lr
        rows = next(sampler).to(learn[1].device)
        loss = update(model, optimizer, learn[0][rows], learn[1][rows])
        model.follow(cfg.decay)
        if step % cfg.evaluate_every == 0:
            plateau.look(evaluate(model.slow, held_out))
        if step % cfg.save_every == 0:
            store.add(capture(model, optimizer, plateau, sampler, step, cfg), evaluate(model.slow, held_out))
        yield loss
    if (best := store.best()) is not None:
        model.load_state_dict(best["model"])


@torch.no_grad()
def predict(model: Pair, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes, by the averaged weights."""
    model.slow.eval()
    return model.slow(images).log_softmax(dim=1)
