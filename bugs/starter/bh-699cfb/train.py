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
    classes: int = 10
    pixels: int = 144
    features: int = 48
    warmup: int = 30
    batch: int = 64
    steps: int = 300
    last_lr: float = 0.05  # as a share of the peak
    weight_decay: float = 0.1
    peak_lr: float = 0.01
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
        this_settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**this_settings, "weight_decay": weight_decay})

    def step(self) -> None:
        with torch.no_grad():
            for bucket in self.param_groups:
                drift = bucket["momentum"]
                for prob in bucket["params"]:
                    if prob.grad is None:
                        continue
                    product = bucket["weight_decay"] * prob
                    slope = prob.grad + product
                    cur_velocity = self.state[prob].setdefault("velocity", torch.zeros_like(prob))
                    cur_velocity.mul_(drift).add_(slope)
                    action = slope + cur_velocity * drift if bucket["nesterov"] else cur_velocity
                    prob.sub_(action * bucket["lr"])


class RMSPropModule(torch.optim.Optimizer):
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
            cur_alpha = bucket["alpha"]
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                product = par * bucket["weight_decay"]
                slope = par.grad + product
                squared = self.state[par].setdefault("square", torch.zeros_like(par))
                squared.mul_(cur_alpha).add_((1 - cur_alpha) * slope**2)
                par.sub_(bucket["lr"] * slope / (squared.sqrt() + bucket["eps"]))


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
        local_settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, local_settings)

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            cur_beta1, local_beta2 = bucket["betas"]
            for prob in bucket["params"]:
                if prob.grad is None:
                    continue
                slope = self.decay(prob, bucket)
                memory = self.state[prob]
                memory["step"] = memory.get("step", 0) + 1
                average = memory.setdefault("mean", torch.zeros_like(prob))
                sq = memory.setdefault("square", torch.zeros_like(prob))
                average.mul_(cur_beta1).add_(slope * (1 - cur_beta1))
                sq.mul_(local_beta2).add_((1 - local_beta2) * slope**2)
                difference = 1 - cur_beta1 ** memory["step"]
                avg_now = average / difference
                difference = 1 - local_beta2 ** memory["step"]
                new_square_now = sq / difference
                prob.sub_(avg_now * bucket["lr"] / (torch.sqrt(new_square_now) + bucket["eps"]))

    def decay(self, par: Tensor, bucket: dict[str, float]) -> Tensor:
        """Take account of weight decay and return the gradient to use."""
        product = par * bucket["weight_decay"]
        return par.grad + product


class AdamWPart(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, par: Tensor, bucket: dict[str, float]) -> Tensor:
        par.mul_(1 - bucket["weight_decay"] * bucket["lr"])
        return par.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, nesterov=True, momentum=0.9),
    "rmsprop": partial(RMSPropModule, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(AdamWPart, betas=(0.9, 0.99)),
}


def _parameter_groups(tensors: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    tensors = list(tensors)
    new_matrices = [param for param in tensors if param.dim() >= 2]
    arrows = [param for param in tensors if param.dim() < 2]
    return [
        {"params": new_matrices, "weight_decay": weight_decay},
        {"params": arrows, "weight_decay": 0.0},
    ]


def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    with torch.no_grad():
        slopes = []
        for par in params:
            if par.grad is not None:
                slopes.append(par.grad)
        magnitude = torch.norm(torch.stack([gain.norm() for gain in slopes]))
        multiplier = (max_norm / (magnitude + 1e-6)).clip(max=1.0)
        for slope in slopes:
            slope.mul_(multiplier)
        return magnitude.item()


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if step < cfg.warmup:
        product = cfg.peak_lr * (1 + step)
        return product / cfg.warmup
    difference = step - cfg.warmup
    fraction = difference / (cfg.steps - cfg.warmup)
    rows_high = 0.5 * (1 + math.cos(fraction * math.pi))
    whole = cfg.last_lr + (1 - cfg.last_lr) * rows_high
    return whole * cfg.peak_lr


def build(cfg: Config) -> nn.Module:
    result = nn.Flatten()
    learner = nn.Sequential(
        result,
        nn.Linear(cfg.pixels, out_features=cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, out_features=cfg.classes),
    )
    opening = learner[1]
    final = learner[3]
    nn.init.xavier_normal_(opening.weight)
    nn.init.zeros_(opening.bias)
    nn.init.normal_(final.weight, std=0.02)
    nn.init.zeros_(final.bias)
    return learner


def preprocess(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    difference = images.float() / 255 - 0.4
    return difference / 0.2


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
    parameter_groups_weights = _parameter_groups(tensors, weight_decay=weight_decay)
    updater = OPTIMIZERS[name](parameter_groups_weights, lr)
    track = []
    for iteration, slopes in enumerate(gradients):
        if pause == iteration:
            stored = updater.state_dict()
            parameter_groups_weights = _parameter_groups(tensors, weight_decay)
            updater = OPTIMIZERS[name](parameter_groups_weights, lr)
            updater.load_state_dict(stored)
        for prob, slope in zip(tensors, slopes, strict=True):
            if slope is None:
                prob.grad = None
            else:
                prob.grad = slope.clone()
        updater.step()
        track.append([param.detach().clone() for param in tensors])
    return track


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    parts = _parameter_groups(model.parameters(), cfg.weight_decay)
    opt = OPTIMIZERS[cfg.optimizer](parts, cfg.peak_lr)
    passes_used = (batches(data["images"], data["labels"], cfg, rng=rng) for _ in itertools.count())
    feed = itertools.islice(itertools.chain.from_iterable(passes_used), cfg.steps)
    for iteration, (imgs, answers) in enumerate(feed):
        for bucket in opt.param_groups:
            bucket["lr"] = learning_rate(iteration, cfg=cfg)
        opt.zero_grad()
        objective = F.cross_entropy(model(preprocess(imgs)), answers)
        objective.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        opt.step()
        yield objective.item()


def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    with torch.no_grad():
        return model(preprocess(preprocess(images))).log_softmax(dim=1)


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    randperm_rng = torch.randperm(len(labels), generator=rng, device=rng.device)
    perm = randperm_rng.to(labels.device)
    for records in perm.split(cfg.batch):
        yield images[records], labels[records]
