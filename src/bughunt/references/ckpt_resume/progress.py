"""What a run remembers besides its weights: where it is in the data, and how well it has done lately."""

import torch
from torch import Generator, Tensor


class Sampler:
    """Batches without end: pass after pass, each row once a pass and in another order each time."""

    def __init__(self, count: int, batch: int, rng: Generator) -> None:
        self.count, self.batch, self.rng = count, batch, rng
        self.order = torch.empty(0, dtype=torch.long)
        self.position = 0

    def __next__(self) -> Tensor:
        if self.position >= len(self.order):
            self.order = torch.randperm(self.count, generator=self.rng, device=self.rng.device)
            self.position = 0
        rows = self.order[self.position : self.position + self.batch]
        self.position += self.batch
        return rows

    def state_dict(self) -> dict:
        return {"order": self.order.clone(), "position": self.position, "rng": self.rng.get_state()}

    def load_state_dict(self, state: dict) -> None:
        self.order = state["order"].to(self.rng.device)
        self.position = state["position"]
        self.rng.set_state(state["rng"].cpu())


class Plateau:
    """The learning rate: cut whenever a few evaluations in a row have brought nothing better."""

    def __init__(self, lr: float, cut: float, patience: int) -> None:
        self.lr, self.cut, self.patience = lr, cut, patience
        self.best = float("inf")
        self.waited = 0

    def look(self, loss: float) -> None:
        if loss < self.best:
            self.best = loss
            self.waited = 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.lr *= self.cut
            self.waited = 0

    def state_dict(self) -> dict:
        return {"lr": self.lr, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        self.lr, self.best, self.waited = state["lr"], state["best"], state["waited"]
