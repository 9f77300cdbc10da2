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
        settings_cur = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**settings_cur, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            this_momentum = bucket["momentum"]
            for prob_p in bucket["params"]:
                if prob_p.grad is None:
                    continue
                slope = prob_p.grad + bucket["weight_decay"] * prob_p
                status = self.state[prob_p]
                if "velocity" not in status:
                    status["velocity"] = torch.zeros_like(prob_p)
                cur_velocity = status["velocity"]
                cur_velocity.mul_(this_momentum).add_(slope)
                move_cur = slope + this_momentum * cur_velocity if bucket["nesterov"] else cur_velocity
                prob_p.sub_(bucket["lr"] * move_cur)


class RMSPropImpl(torch.optim.Optimizer):
    """Each weight's step is measured in units of its own recent gradients."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        settings_val = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings_val)

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            alpha_cur = bucket["alpha"]
            for prob_p in bucket["params"]:
                if prob_p.grad is None:
                    continue
                slope = prob_p.grad + bucket["weight_decay"] * prob_p
                memory = self.state[prob_p]
                if "square" not in memory:
                    memory["square"] = torch.zeros_like(prob_p)
                cur_square = memory["square"]
                cur_square.mul_(alpha_cur).add_((1 - alpha_cur) * slope**2)
                prob_p.sub_(bucket["lr"] * slope / (cur_square.sqrt() + bucket["eps"]))


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
        this_settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, this_settings)

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        """Take account of weight decay and return the gradient to use."""
        return p.grad + group["weight_decay"] * p

    @torch.no_grad()
    def step(self) -> None:
        for param_group in self.param_groups:
            beta1_val, beta2_val = param_group["betas"]
            for prm in param_group["params"]:
                if prm.grad is None:
                    continue
                slope = self.decay(prm, param_group)
                status = self.state[prm]
                if "step" not in status:
                    status["step"] = 0
                    status["mean"] = torch.zeros_like(prm)
                    status["square"] = torch.zeros_like(prm)
                status["step"] += 1
                average, square_val = status["mean"], status["square"]
                average.mul_(beta1_val).add_((1 - beta1_val) * slope)
                square_val.mul_(beta2_val).add_((1 - beta2_val) * slope**2)
                avg_now = average / (1 - beta1_val ** status["step"])
                square_now_here = square_val / (1 - beta2_val ** status["step"])
                prm.sub_(param_group["lr"] * avg_now / (square_now_here.sqrt() + param_group["eps"]))


class AdamWImpl(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return p.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSPropImpl, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(AdamWImpl, betas=(0.9, 0.99)),
}


def cur_parameter_groups(params: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    params = list(params)
    matrices_cur = [prob_p for prob_p in params if prob_p.dim() >= 2]
    vectors_cur = [prob_p for prob_p in params if prob_p.dim() < 2]
    return [
        {"params": matrices_cur, "weight_decay": weight_decay},
        {"params": vectors_cur, "weight_decay": 0.0},
    ]


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    done_part = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    cur_height = 0.5 * (1 + math.cos(math.pi * done_part))
    return cfg.peak_lr * (cfg.last_lr + (1 - cfg.last_lr) * cur_height)


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    slopes = [prm.grad for prm in params if prm.grad is not None]
    magnitude = torch.stack([gain.norm() for gain in slopes]).norm()
    factor = (max_norm / (magnitude + 1e-6)).clamp(max=1.0)
    for slope in slopes:
        slope.mul_(factor)
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
    tensors = [nn.Parameter(content.clone()) for content in start]
    solver = OPTIMIZERS[name](cur_parameter_groups(tensors, weight_decay), lr)
    cur_path = []
    for iteration, slopes in enumerate(gradients):
        if iteration == pause:
            this_saved = solver.state_dict()
            solver = OPTIMIZERS[name](cur_parameter_groups(tensors, weight_decay), lr)
            solver.load_state_dict(this_saved)
        for prob_p, slope in zip(tensors, slopes, strict=True):
            prob_p.grad = None if slope is None else slope.clone()
        solver.step()
        cur_path.append([par.detach().clone() for par in tensors])
    return cur_path


def build(cfg: Config) -> nn.Module:
    model_here = nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, cfg.classes),
    )
    first_here, top = model_here[1], model_here[3]
    nn.init.xavier_normal_(first_here.weight)
    nn.init.zeros_(first_here.bias)
    nn.init.normal_(top.weight, std=0.02)
    nn.init.zeros_(top.bias)
    return model_here


def prepare_val(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    perm = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in perm.split(cfg.batch):
        yield images[samples], labels[samples]


def cur_endless(data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches(data["images"], data["labels"], cfg, rng)


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    groups_cur = cur_parameter_groups(model.parameters(), cfg.weight_decay)
    opt = OPTIMIZERS[cfg.optimizer](groups_cur, cfg.peak_lr)
    stream_val = itertools.islice(cur_endless(data, cfg, rng), cfg.steps)
    for iteration, (imgs, targets) in enumerate(stream_val):
        for bucket in opt.param_groups:
            bucket["lr"] = learning_rate(iteration, cfg)
        opt.zero_grad()
        err = F.cross_entropy(model(prepare_val(imgs)), targets)
        opt.step()
        err.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        yield err.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    return model(prepare_val(images)).log_softmax(dim=1)
