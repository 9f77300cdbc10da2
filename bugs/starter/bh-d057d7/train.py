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


@dataclass(frozen=True, kw_only=True)
class Config:
    classes: int = 10
    pixels: int = 144
    optimizer: str = "adamw"
    features: int = 48
    batch: int = 64
    peak_lr: float = 0.01
    warmup: int = 30
    steps: int = 300
    weight_decay: float = 0.1
    max_norm: float = 0.5
    last_lr: float = 0.05  # as a share of the peak


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
        this_settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**this_settings, "weight_decay": weight_decay})

    def step(self) -> None:
        with torch.no_grad():
            for bucket in self.param_groups:
                drift = bucket["momentum"]
                for param in bucket["params"]:
                    if param.grad is None:
                        continue
                    product = bucket["weight_decay"] * param
                    slope = param.grad + product
                    velocity_now = self.state[param].setdefault("velocity", torch.zeros_like(param))
                    velocity_now.mul_(drift).add_(slope)
                    shift = slope + drift * velocity_now if bucket["nesterov"] else velocity_now
                    param.sub_(shift * bucket["lr"])


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
        settings_now = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings_now)

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            local_alpha = bucket["alpha"]
            for param in bucket["params"]:
                if param.grad is None:
                    continue
                product = param * bucket["weight_decay"]
                slope = param.grad + product
                sq = self.state[param].setdefault("square", torch.zeros_like(param))
                sq.mul_(local_alpha).add_((1 - local_alpha) * slope**2)
                param.sub_(slope * bucket["lr"] / (torch.sqrt(sq) + bucket["eps"]))


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

    @torch.no_grad()
    def step(self) -> None:
        for param_group in self.param_groups:
            beta1_used, beta2_used = param_group["betas"]
            for param in param_group["params"]:
                if param.grad is None:
                    continue
                slope = self.decay(param, param_group)
                memory = self.state[param]
                memory["step"] = memory.get("step", 0) + 1
                average = memory.setdefault("mean", torch.zeros_like(param))
                squared = memory.setdefault("square", torch.zeros_like(param))
                average.mul_(beta1_used).add_(slope * (1 - beta1_used))
                squared.mul_(beta2_used).add_((1 - beta2_used) * slope**2)
                difference = 1 - beta2_used ** memory["step"]
                this_square_now = squared / difference
                avg_now = average / (1 - beta1_used ** memory["step"])
                param.sub_(avg_now * param_group["lr"] / (torch.sqrt(this_square_now) + param_group["eps"]))

    def decay(self, par: Tensor, param_group: dict[str, float]) -> Tensor:
        """Take account of weight decay and return the gradient to use."""
        product = param_group["weight_decay"] * par
        return par.grad + product


class AdamWPart(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, param: Tensor, bucket: dict[str, float]) -> Tensor:
        param.mul_(1 - bucket["weight_decay"] * bucket["lr"])
        return param.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, nesterov=True, momentum=0.9),
    "rmsprop": partial(RMSPropPart, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(AdamWPart, betas=(0.9, 0.99)),
}


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if cfg.warmup > step:
        return (step + 1) * cfg.peak_lr / cfg.warmup
    rows_high = 0.5 * (1 + math.cos((step - cfg.warmup) / (cfg.steps - cfg.warmup) * math.pi))
    overall = cfg.last_lr + (1 - cfg.last_lr) * rows_high
    return overall * cfg.peak_lr


def _parameter_groups_impl(tensors: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    tensors = list(tensors)
    this_matrices = []
    for prob in tensors:
        if prob.dim() >= 2:
            this_matrices.append(prob)
    directions = [prob for prob in tensors if prob.dim() < 2]
    return [
        {"params": this_matrices, "weight_decay": weight_decay},
        {"params": directions, "weight_decay": 0.0},
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
    tensors = []
    for content in start:
        tensors.append(nn.Parameter(content.clone()))
    updater = OPTIMIZERS[name](_parameter_groups_impl(tensors, weight_decay=weight_decay), lr)
    track = []
    for iteration, slopes in enumerate(gradients):
        if iteration == pause:
            backup = updater.state_dict()
            parameter_groups_tensors = _parameter_groups_impl(tensors, weight_decay=weight_decay)
            updater = OPTIMIZERS[name](parameter_groups_tensors, lr)
            updater.load_state_dict(backup)
        for par, slope in zip(tensors, slopes, strict=True):
            if slope is None:
                par.grad = None
            else:
                par.grad = slope.clone()
        updater.step()
        track.append([prob.detach().clone() for prob in tensors])
    return track


def build(cfg: Config) -> nn.Module:
    learner = nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, out_features=cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, out_features=cfg.classes),
    )
    initial = learner[1]
    top = learner[3]
    nn.init.xavier_normal_(initial.weight)
    nn.init.zeros_(initial.bias)
    nn.init.zeros_(top.weight)
    nn.init.zeros_(top.bias)
    return learner


def preprocess(imgs: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (imgs.float() / 255 - 0.4) / 0.2


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    slopes = [param.grad for param in params if param.grad is not None]
    stacked = torch.stack([gain.norm() for gain in slopes])
    magnitude = torch.norm(stacked)
    quotient = max_norm / (1e-6 + magnitude)
    factor = quotient.clip(max=1.0)
    for slope in slopes:
        slope.mul_(factor)
    return magnitude.item()


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    buckets = _parameter_groups_impl(model.parameters(), cfg.weight_decay)
    opt = OPTIMIZERS[cfg.optimizer](buckets, cfg.peak_lr)
    local_passes = (batches(data["images"], data["labels"], cfg, rng=rng) for _ in itertools.count())
    from_iterable_passes = itertools.chain.from_iterable(local_passes)
    source = itertools.islice(from_iterable_passes, cfg.steps)
    for tick, (imgs, answers) in enumerate(source):
        for bucket in opt.param_groups:
            bucket["lr"] = learning_rate(tick, cfg=cfg)
        opt.zero_grad(set_to_none=True)
        cost = F.cross_entropy(model(preprocess(imgs)), target=answers)
        cost.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        opt.step()
        yield cost.item()


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    randperm_rng = torch.randperm(len(labels), generator=rng, device=rng.device)
    sequence = randperm_rng.to(labels.device)
    for samples in sequence.split(split_size=cfg.batch):
        yield images[samples], labels[samples]


def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    with torch.no_grad():
        return model(preprocess(images)).log_softmax(1)
