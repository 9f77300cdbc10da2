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
            momentum_cur = bucket["momentum"]
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                slope = par.grad + bucket["weight_decay"] * par
                status = self.state[par]
                if "velocity" not in status:
                    status["velocity"] = torch.zeros_like(par)
                velocity_cur = status["velocity"]
                velocity_cur.mul_(momentum_cur).add_(slope)
                move_here = slope + momentum_cur * velocity_cur if bucket["nesterov"] else velocity_cur
                par.sub_(bucket["lr"] * move_here)


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
        settings_cur = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings_cur)

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            alpha_cur = bucket["alpha"]
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                slope = par.grad + bucket["weight_decay"] * par
                status = self.state[par]
                if "square" not in status:
                    status["square"] = torch.zeros_like(par)
                square_val = status["square"]
                square_val.mul_(alpha_cur).add_((1 - alpha_cur) * slope**2)
                par.sub_(bucket["lr"] * slope / (square_val.sqrt() + bucket["eps"]))


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
        cur_settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, cur_settings)

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        """Take account of weight decay and return the gradient to use."""
        return p.grad + group["weight_decay"] * p

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            beta1_cur, beta2_cur = bucket["betas"]
            for prm in bucket["params"]:
                if prm.grad is None:
                    continue
                slope = self.decay(prm, bucket)
                status = self.state[prm]
                if "step" not in status:
                    status["step"] = 0
                    status["mean"] = torch.zeros_like(prm)
                    status["square"] = torch.zeros_like(prm)
                status["step"] += 1
                avg, this_square = status["mean"], status["square"]
                avg.mul_(beta1_cur).add_((1 - beta1_cur) * slope)
                this_square.mul_(beta2_cur).add_((1 - beta2_cur) * slope**2)
                average_now = avg / (1 - beta1_cur ** status["step"])
                this_square_now = this_square / (1 - beta2_cur ** status["step"])
                prm.sub_(bucket["lr"] * average_now / (this_square_now.sqrt() + bucket["eps"]))


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


def this_parameter_groups(params: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    params = list(params)
    cur_matrices = [prob_p for prob_p in params if prob_p.dim() >= 2]
    vectors_cur = [prob_p for prob_p in params if prob_p.dim() < 2]
    return [
        {"params": cur_matrices, "weight_decay": weight_decay},
        {"params": vectors_cur, "weight_decay": 0.0},
    ]


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    fraction = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    this_height = 0.5 * (1 + math.cos(math.pi * fraction))
    return cfg.peak_lr * (cfg.last_lr + (1 - cfg.last_lr) * this_height)


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    slopes = [prm.grad for prm in params if prm.grad is not None]
    magnitude = torch.stack([grp.norm() for grp in slopes]).norm()
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
    opt = OPTIMIZERS[name](this_parameter_groups(tensors, weight_decay), lr)
    cur_path = []
    for tick, slopes in enumerate(gradients):
        if tick == pause:
            this_saved = opt.state_dict()
            opt = OPTIMIZERS[name](this_parameter_groups(tensors, weight_decay), lr)
            opt.load_state_dict(this_saved)
        for par, slope in zip(tensors, slopes, strict=True):
            par.grad = None if slope is None else slope.clone()
        opt.step()
        cur_path.append([par.detach().clone() for par in tensors])
    return cur_path


def build(cfg: Config) -> nn.Module:
    cur_model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, cfg.classes),
    )
    cur_first, top = cur_model[1], cur_model[3]
    nn.init.xavier_normal_(cur_first.weight)
    nn.init.zeros_(cur_first.bias)
    nn.init.zeros_(top.weight)
    nn.init.zeros_(top.bias)
    return cur_model


def prepare_val(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for records in sequence.split(cfg.batch):
        yield images[records], labels[records]


def endless_here(data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches(data["images"], data["labels"], cfg, rng)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    groups_here = this_parameter_groups(model.parameters(), cfg.weight_decay)
    solver = OPTIMIZERS[cfg.optimizer](groups_here, cfg.peak_lr)
    stream_val = itertools.islice(endless_here(data, cfg, rng), cfg.steps)
    for iteration, (imgs, answers) in enumerate(stream_val):
        for bucket in solver.param_groups:
            bucket["lr"] = learning_rate(iteration, cfg)
        solver.zero_grad()
        cost = F.cross_entropy(model(prepare_val(imgs)), answers)
        cost.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        solver.step()
        yield cost.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    return model(prepare_val(images)).log_softmax(dim=1)
