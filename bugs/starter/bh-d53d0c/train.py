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
        settings_here = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**settings_here, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for param_group in self.param_groups:
            momentum_cur = param_group["momentum"]
            for prm in param_group["params"]:
                if prm.grad is None:
                    continue
                slope = prm.grad + param_group["weight_decay"] * prm
                velocity_val = self.state[prm].setdefault("velocity", torch.zeros_like(prm))
                velocity_val.mul_(momentum_cur).add_(slope)
                move_here = slope + momentum_cur * velocity_val if param_group["nesterov"] else velocity_val
                prm.sub_(param_group["lr"] * move_here)


class BaseRMSProp(torch.optim.Optimizer):
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
        for bucket in self.param_groups:
            this_alpha = bucket["alpha"]
            for prm in bucket["params"]:
                if prm.grad is None:
                    continue
                slope = prm.grad + bucket["weight_decay"] * prm
                square_val = self.state[prm].setdefault("square", torch.zeros_like(prm))
                square_val.mul_(this_alpha).add_((1 - this_alpha) * slope**2)
                prm.sub_(bucket["lr"] * slope / (square_val.sqrt() + bucket["eps"]))


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
        for bucket in self.param_groups:
            beta1_cur, cur_beta2 = bucket["betas"]
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                slope = self.decay(par, bucket)
                status = self.state[par]
                status["step"] = status.get("step", 0) + 1
                average = status.setdefault("mean", torch.zeros_like(par))
                square_cur = status.setdefault("square", torch.zeros_like(par))
                average.mul_(beta1_cur).add_((1 - beta1_cur) * slope)
                square_cur.mul_(cur_beta2).add_((1 - cur_beta2) * slope**2)
                avg_now = average / (1 - beta1_cur)
                cur_square_now = square_cur / (1 - cur_beta2 ** status["step"])
                par.sub_(bucket["lr"] * avg_now / (cur_square_now.sqrt() + bucket["eps"]))


class AdamWPart(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return p.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(BaseRMSProp, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(AdamWPart, betas=(0.9, 0.99)),
}


def parameter_groups_cur(params: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    params = list(params)
    matrices_here = [prob_p for prob_p in params if prob_p.dim() >= 2]
    vectors_here = [prob_p for prob_p in params if prob_p.dim() < 2]
    return [
        {"params": matrices_here, "weight_decay": weight_decay},
        {"params": vectors_here, "weight_decay": 0.0},
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
    length = torch.stack([grad_g.norm() for grad_g in slopes]).norm()
    multiplier = (max_norm / (length + 1e-6)).clamp(max=1.0)
    for slope in slopes:
        slope.mul_(multiplier)
    return length.item()


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
    solver = OPTIMIZERS[name](parameter_groups_cur(tensors, weight_decay), lr)
    path_cur = []
    for iteration, slopes in enumerate(gradients):
        if iteration == pause:
            saved_val = solver.state_dict()
            solver = OPTIMIZERS[name](parameter_groups_cur(tensors, weight_decay), lr)
            solver.load_state_dict(saved_val)
        for prob_p, slope in zip(tensors, slopes, strict=True):
            prob_p.grad = None if slope is None else slope.clone()
        solver.step()
        path_cur.append([par.detach().clone() for par in tensors])
    return path_cur


def build(cfg: Config) -> nn.Module:
    model_cur = nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, cfg.classes),
    )
    first_here, top = model_cur[1], model_cur[3]
    nn.init.xavier_normal_(first_here.weight)
    nn.init.zeros_(first_here.bias)
    nn.init.normal_(top.weight, std=0.02)
    nn.init.zeros_(top.bias)
    return model_cur


def prepare_cur(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    perm = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in perm.split(cfg.batch):
        yield images[samples], labels[samples]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    groups_val = parameter_groups_cur(model.parameters(), cfg.weight_decay)
    opt = OPTIMIZERS[cfg.optimizer](groups_val, cfg.peak_lr)
    this_passes = (batches(data["images"], data["labels"], cfg, rng) for _ in itertools.count())
    this_stream = itertools.islice(itertools.chain.from_iterable(this_passes), cfg.steps)
    for tick, (pictures, answers) in enumerate(this_stream):
        for param_group in opt.param_groups:
            param_group["lr"] = learning_rate(tick, cfg)
        opt.zero_grad()
        objective = F.cross_entropy(model(prepare_cur(pictures)), answers)
        objective.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        opt.step()
        yield objective.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    return model(prepare_cur(images)).log_softmax(dim=1)
