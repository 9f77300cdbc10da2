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
        this_settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, {**this_settings, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            this_momentum = bucket["momentum"]
            for prm in bucket["params"]:
                if prm.grad is None:
                    continue
                slope = prm.grad + bucket["weight_decay"] * prm
                velocity_cur = self.state[prm].setdefault("velocity", torch.zeros_like(prm))
                velocity_cur.mul_(this_momentum).add_(slope)
                move_val = slope + this_momentum * velocity_cur if bucket["nesterov"] else velocity_cur
                prm.sub_(bucket["lr"] * move_val)


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
        settings_val = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings_val)

    @torch.no_grad()
    def step(self) -> None:
        for bucket in self.param_groups:
            alpha_val = bucket["alpha"]
            for prm in bucket["params"]:
                if prm.grad is None:
                    continue
                slope = prm.grad + bucket["weight_decay"] * prm
                this_square = self.state[prm].setdefault("square", torch.zeros_like(prm))
                this_square.mul_(alpha_val).add_((1 - alpha_val) * slope**2)
                prm.sub_(bucket["lr"] * slope / (this_square.sqrt() + bucket["eps"]))


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
        for param_group in self.param_groups:
            this_beta1, beta2_here = param_group["betas"]
            for prob_p in param_group["params"]:
                if prob_p.grad is None:
                    continue
                slope = self.decay(prob_p, param_group)
                memory = self.state[prob_p]
                memory["step"] = memory.get("step", 0) + 1
                average = memory.setdefault("mean", torch.zeros_like(prob_p))
                this_square = memory.setdefault("square", torch.zeros_like(prob_p))
                average.mul_(this_beta1).add_((1 - this_beta1) * slope)
                this_square.mul_(beta2_here).add_((1 - beta2_here) * slope**2)
                avg_now = average / (1 - this_beta1 ** memory["step"])
                this_square_now = this_square / (1 - beta2_here ** memory["step"])
                prob_p.sub_(param_group["lr"] * avg_now / (this_square_now.sqrt() + param_group["eps"]))


class AdamWPart(Adam):
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
    "adamw": partial(AdamWPart, betas=(0.9, 0.99)),
}


def parameter_groups_cur(params: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    params = list(params)
    this_matrices = [par for par in params if par.dim() >= 2]
    cur_vectors = [par for par in params if par.dim() < 2]
    return [
        {"params": this_matrices, "weight_decay": weight_decay},
        {"params": cur_vectors, "weight_decay": 0.0},
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
    updater = OPTIMIZERS[name](parameter_groups_cur(tensors, weight_decay), lr)
    cur_path = []
    for iteration, slopes in enumerate(gradients):
        if iteration == pause:
            saved_cur = updater.state_dict()
            updater = OPTIMIZERS[name](parameter_groups_cur(tensors, weight_decay), lr)
            updater.load_state_dict(saved_cur)
        for prob_p, slope in zip(tensors, slopes, strict=True):
            prob_p.grad = None if slope is None else slope.clone()
        updater.step()
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


def prepare_cur(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in sequence.split(cfg.batch):
        yield images[samples], labels[samples]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    this_groups = parameter_groups_cur(model.parameters(), cfg.weight_decay)
    opt = OPTIMIZERS[cfg.optimizer](this_groups, cfg.peak_lr)
    passes_val = (batches(data["images"], data["labels"], cfg, rng) for _ in itertools.count())
    stream_cur = itertools.islice(itertools.chain.from_iterable(passes_val), cfg.steps)
    for tick, (imgs, answers) in enumerate(stream_cur):
        for bucket in opt.param_groups:
            bucket["lr"] = learning_rate(tick, cfg)
        opt.zero_grad()
        cost = F.cross_entropy(model(prepare_cur(imgs)), answers)
        cost.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        opt.step()
        yield cost.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    return model(prepare_cur(images)).log_softmax(dim=1)
