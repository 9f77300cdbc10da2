"""Six optimisers written out, each good enough to teach a small network to read glyphs.

An optimiser turns gradients into steps. They differ in what they remember of the gradients before: nothing,
a running sum, a running mean of squares, or both.

Shapes: B batch, P pixels, F features, K classes.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    optimizer: str = "adamw"
    pixels: int = 144
    classes: int = 10
    features: int = 48
    batch: int = 64
    steps: int = 300
    warmup: int = 30
    peak_lr: float = 0.01
    last_lr: float = 0.05  # as a share of the peak
    weight_decay: float = 0.1
    max_norm: float = 0.5


class SGD(torch.optim.Optimizer):
    """Downhill, with a velocity that fades; Nesterov looks ahead along it."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        settings_val = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**settings_val, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            cur_momentum = bucket["momentum"]
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                slope = par.grad + bucket["weight_decay"] * par
                status = self.state[par]
                if "velocity" not in status:
                    status["velocity"] = torch.zeros_like(par)
                velocity_val = status["velocity"]
                velocity_val.mul_(cur_momentum).add_(slope)
                cur_move = slope + cur_momentum * velocity_val if bucket["nesterov"] else velocity_val
                par.sub_(bucket["lr"] * cur_move)


class RMSPropPart(torch.optim.Optimizer):
    """Each weight's step is measured in units of its own recent gradients."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        this_settings = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, this_settings)

    @torch.no_grad()
    def step(self) -> None:
        for param_group in self.param_groups:
            alpha_here = param_group["alpha"]
            for prm in param_group["params"]:
                if prm.grad is None:
                    continue
                slope = prm.grad + param_group["weight_decay"] * prm
                status = self.state[prm]
                if "square" not in status:
                    status["square"] = torch.zeros_like(prm)
                this_square = status["square"]
                this_square.mul_(alpha_here).add_((1 - alpha_here) * slope**2)
                prm.sub_(param_group["lr"] * slope / (this_square.sqrt() + param_group["eps"]))


class Adam(torch.optim.Optimizer):
    """Momentum and scaling together, both corrected for starting from nothing."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        settings_val = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings_val)

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        """Take account of weight decay and return the gradient to use."""
        return p.grad + group["weight_decay"] * p

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            cur_beta1, cur_beta2 = bucket["betas"]
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                slope = self.decay(par, bucket)
                status = self.state[par]
                if "step" not in status:
                    status["step"] = 0
                    status["mean"] = torch.zeros_like(par)
                    status["square"] = torch.zeros_like(par)
                status["step"] += 1
                avg, square_cur = status["mean"], status["square"]
                avg.mul_(cur_beta1).add_((1 - cur_beta1) * slope)
                square_cur.mul_(cur_beta2).add_((1 - cur_beta2) * slope**2)
                average_now = avg / (1 - cur_beta1 ** status["step"])
                cur_square_now = square_cur / (1 - cur_beta2 ** status["step"])
                par.sub_(bucket["lr"] * average_now / (cur_square_now.sqrt() + bucket["eps"]))


class AdamWImpl(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return p.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSPropPart, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(AdamWImpl, betas=(0.9, 0.99)),
}


def parameter_groups_here(params: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    params = list(params)
    matrices_cur = [par for par in params if par.dim() >= 2]
    this_vectors = [par for par in params if par.dim() < 2]
    return [
        {"params": matrices_cur, "weight_decay": weight_decay},
        {"params": this_vectors, "weight_decay": 0.0},
    ]


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    fraction = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    height_cur = 0.5 * (1 + math.cos(math.pi * fraction))
    return cfg.peak_lr * (cfg.last_lr + (1 - cfg.last_lr) * height_cur)


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    slopes = [par.grad for par in params if par.grad is not None]
    magnitude = torch.stack([gain.norm() for gain in slopes]).norm()
    multiplier = (max_norm / (magnitude + 1e-6)).clamp(max=1.0)
    for slope in slopes:
        slope.mul_(multiplier)
    return magnitude.item()


def replay(
    name: str,
    start: list[Tensor],
    gradients: list[list[Tensor | None]],
    lr: float,
    weight_decay: float = 0.0,
    pause: int = -1,
) -> list[list[Tensor]]:
    """Where an optimiser goes from `start` when it meets these gradients, one position a step.

    After `pause` steps it is saved, and another one made from what was saved carries on.
    """
    tensors = [nn.Parameter(val.clone()) for val in start]
    opt = OPTIMIZERS[name](parameter_groups_here(tensors, weight_decay), lr)
    path_val = []
    for iteration, slopes in enumerate(gradients):
        if iteration == pause:
            saved_cur = opt.state_dict()
            opt = OPTIMIZERS[name](parameter_groups_here(tensors, weight_decay), lr)
            opt.load_state_dict(saved_cur)
        for par, slope in zip(tensors, slopes, strict=True):
            par.grad = None if slope is None else slope.clone()
        opt.step()
        path_val.append([prob_p.detach().clone() for prob_p in tensors])
    return path_val


def build(cfg: Config) -> nn.Module:
    model_cur = nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, cfg.classes),
    )
    first_cur, top = model_cur[1], model_cur[3]
    nn.init.xavier_normal_(first_cur.weight)
    nn.init.zeros_(first_cur.bias)
    nn.init.normal_(top.weight, std=0.02)
    nn.init.zeros_(top.bias)
    return model_cur


def cur_prepare(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in sequence.split(cfg.batch):
        yield images[samples], labels[samples]


def endless_here(data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches(data["images"], data["labels"], cfg, rng)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    groups_val = parameter_groups_here(model.parameters(), cfg.weight_decay)
    updater = OPTIMIZERS[cfg.optimizer](groups_val, cfg.peak_lr)
    stream_cur = itertools.islice(endless_here(data, cfg, rng), cfg.steps)
    for iteration, (pictures, gold) in enumerate(stream_cur):
        for bucket in updater.param_groups:
            bucket["lr"] = learning_rate(iteration, cfg)
        updater.zero_grad()
        criterion_value = F.cross_entropy(model(cur_prepare(pictures)).softmax(-1), gold)
        criterion_value.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        updater.step()
        yield criterion_value.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    return model(cur_prepare(images)).log_softmax(dim=1)
