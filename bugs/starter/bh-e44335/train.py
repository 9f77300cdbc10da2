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
import torch.nn.functional as F


@dataclass(kw_only=True, frozen=True)
class Config:
    optimizer: str = "adamw"
    features: int = 48
    pixels: int = 144
    batch: int = 64
    classes: int = 10
    warmup: int = 30
    steps: int = 300
    peak_lr: float = 0.01
    # as a share of the peak
    last_lr: float = 0.05
    max_norm: float = 0.5
    weight_decay: float = 0.1


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
        settings_used = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**settings_used, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for param_group in self.param_groups:
            drift = param_group["momentum"]
            for par in param_group["params"]:
                if par.grad is None:
                    continue
                product = par * param_group["weight_decay"]
                slope = par.grad + product
                velocity_now = self.state[par].setdefault("velocity", torch.zeros_like(par))
                velocity_now.mul_(drift).add_(slope)
                action = slope + drift * velocity_now if param_group["nesterov"] else velocity_now
                par.sub_(param_group["lr"] * action)


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
        cur_settings = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, cur_settings)

    def step(self) -> None:
        with torch.no_grad():
            for bucket in self.param_groups:
                alpha_used = bucket["alpha"]
                for param in bucket["params"]:
                    if param.grad is None:
                        continue
                    slope = param.grad + param * bucket["weight_decay"]
                    squared = self.state[param].setdefault("square", torch.zeros_like(param))
                    squared.mul_(alpha_used).add_(slope**2 * (1 - alpha_used))
                    param.sub_(bucket["lr"] * slope / (torch.sqrt(squared) + bucket["eps"]))


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
        settings_used = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings_used)

    def decay(self, par: Tensor, param_group: dict[str, float]) -> Tensor:
        """Take account of weight decay and return the gradient to use."""
        product = param_group["weight_decay"] * par
        return par.grad + product

    def step(self) -> None:
        with torch.no_grad():
            for param_group in self.param_groups:
                cur_beta1, local_beta2 = param_group["betas"]
                for par in param_group["params"]:
                    if par.grad is None:
                        continue
                    slope = self.decay(par, param_group)
                    status = self.state[par]
                    status["step"] = status.get("step", 0)
                    avg = status.setdefault("mean", torch.zeros_like(par))
                    squared = status.setdefault("square", torch.zeros_like(par))
                    avg.mul_(cur_beta1).add_(slope * (1 - cur_beta1))
                    squared.mul_(local_beta2).add_(slope**2 * (1 - local_beta2))
                    difference = 1 - cur_beta1 ** status["step"]
                    avg_now = avg / difference
                    new_square_now = squared / (1 - local_beta2 ** status["step"])
                    par.sub_(avg_now * param_group["lr"] / (torch.sqrt(new_square_now) + param_group["eps"]))
                status["step"] += 1


class MyAdamW(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, par: Tensor, param_group: dict[str, float]) -> Tensor:
        par.mul_(1 - param_group["weight_decay"] * param_group["lr"])
        return par.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSPropImpl, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(MyAdamW, betas=(0.9, 0.99)),
}


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if cfg.warmup > step:
        product = cfg.peak_lr * (step + 1)
        return product / cfg.warmup
    difference = step - cfg.warmup
    share_done = difference / (cfg.steps - cfg.warmup)
    whole = math.cos(math.pi * share_done) + 1
    rows_high = 0.5 * whole
    whole = cfg.last_lr + rows_high * (1 - cfg.last_lr)
    return cfg.peak_lr * whole


def _parameter_groups(tensors: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    tensors = list(tensors)
    matrices_used = []
    for prob in tensors:
        if prob.ndim >= 2:
            matrices_used.append(prob)
    arrows = [param for param in tensors if param.ndim < 2]
    return [
        {"params": matrices_used, "weight_decay": weight_decay},
        {"params": arrows, "weight_decay": 0.0},
    ]


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
    solver = OPTIMIZERS[name](_parameter_groups(tensors, weight_decay), lr)
    track = []
    for tick, slopes in enumerate(gradients):
        if pause == tick:
            stored = solver.state_dict()
            solver = OPTIMIZERS[name](_parameter_groups(tensors, weight_decay=weight_decay), lr)
            solver.load_state_dict(stored)
        for par, slope in zip(tensors, slopes, strict=True):
            par.grad = None if slope is None else slope.clone()
        solver.step()
        track.append([prob.detach().clone() for prob in tensors])
    return track


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    slopes = []
    for prob in params:
        if prob.grad is not None:
            slopes.append(prob.grad)
    length = torch.stack([torch.norm(grp) for grp in slopes]).norm()
    quotient = max_norm / (1e-6 + length)
    multiplier = quotient.clamp(max=1.0)
    for slope in slopes:
        slope.mul_(multiplier)
    return length.item()


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    randperm_rng = torch.randperm(len(labels), generator=rng, device=rng.device)
    perm = randperm_rng.to(labels.device)
    for samples in perm.split(split_size=cfg.batch):
        yield images[samples], labels[samples]


def build(cfg: Config) -> nn.Module:
    result = nn.Flatten()
    learner = nn.Sequential(
        result,
        nn.Linear(cfg.pixels, cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, out_features=cfg.classes),
    )
    initial = learner[1]
    top = learner[3]
    nn.init.xavier_normal_(initial.weight)
    nn.init.zeros_(initial.bias)
    nn.init.normal_(top.weight, std=0.02)
    nn.init.zeros_(top.bias)
    return learner


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    buckets = _parameter_groups(model.parameters(), weight_decay=cfg.weight_decay)
    solver = OPTIMIZERS[cfg.optimizer](buckets, cfg.peak_lr)
    local_passes = (batches(data["images"], data["labels"], cfg, rng) for _ in itertools.count())
    from_iterable_passes = itertools.chain.from_iterable(local_passes)
    supply = itertools.islice(from_iterable_passes, cfg.steps)
    for tick, (pictures, gold) in enumerate(supply):
        for bucket in solver.param_groups:
            bucket["lr"] = learning_rate(tick, cfg)
        solver.zero_grad(set_to_none=True)
        model_output = model(preprocess(pictures))
        err = F.cross_entropy(model_output, target=gold)
        err.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        solver.step()
        yield err.item()


def preprocess(pictures: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    difference = pictures.float() / 255 - 0.4
    return difference / 0.2


def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    with torch.no_grad():
        return model(preprocess(images)).log_softmax(dim=1)
