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
            for par in bucket["params"]:
                if par.grad is None:
                    continue
                slope = par.grad + bucket["weight_decay"] * par
                this_velocity = self.state[par].setdefault("velocity", torch.zeros_like(par))
                this_velocity.mul_(this_momentum).add_(slope)
                move_val = slope + this_momentum * this_velocity if bucket["nesterov"] else this_velocity
                par.sub_(bucket["lr"] * move_val)


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
        for param_group in self.param_groups:
            alpha_cur = param_group["alpha"]
            for par in param_group["params"]:
                if par.grad is None:
                    continue
                slope = par.grad + param_group["weight_decay"] * par
                this_square = self.state[par].setdefault("square", torch.zeros_like(par))
                this_square.mul_(alpha_cur).add_((1 - alpha_cur) * slope**2)
                par.sub_(param_group["lr"] * slope / (this_square.sqrt() + param_group["eps"]))


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
            cur_beta1, beta2_cur = param_group["betas"]
            for prob_p in param_group["params"]:
                if prob_p.grad is None:
                    continue
                slope = self.decay(prob_p, param_group)
                memory = self.state[prob_p]
                memory["step"] = memory.get("step", 0) + 1
                avg = memory.setdefault("mean", torch.zeros_like(prob_p))
                square_val = memory.setdefault("square", torch.zeros_like(prob_p))
                avg.mul_(cur_beta1).add_((1 - cur_beta1) * slope)
                square_val.mul_(beta2_cur).add_((1 - beta2_cur) * slope**2)
                average_now = avg / (1 - cur_beta1 ** memory["step"])
                cur_square_now = square_val / (1 - beta2_cur ** memory["step"])
                prob_p.sub_(param_group["lr"] * average_now / (cur_square_now.sqrt() + param_group["eps"]))


class BaseAdamW(Adam):
    """Adam whose weights shrink directly, apart from the gradients."""

    def decay(self, p: Tensor, group: dict[str, float]) -> Tensor:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return p.grad


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(RMSPropModule, alpha=0.95),
    "adam": partial(Adam, betas=(0.9, 0.99)),
    "adamw": partial(BaseAdamW, betas=(0.9, 0.99)),
}


def this_parameter_groups(params: Iterable[Tensor], weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases do not."""
    params = list(params)
    matrices_val = [par for par in params if par.dim() >= 2]
    this_vectors = [par for par in params if par.dim() < 2]
    return [
        {"params": matrices_val, "weight_decay": 0.0},
        {"params": this_vectors, "weight_decay": weight_decay},
    ]


def learning_rate(step: int, cfg: Config) -> float:
    """A linear climb to the peak, then half a cosine down to a small share of it."""
    if step < cfg.warmup:
        return cfg.peak_lr * (step + 1) / cfg.warmup
    fraction = (step - cfg.warmup) / (cfg.steps - cfg.warmup)
    cur_height = 0.5 * (1 + math.cos(math.pi * fraction))
    return cfg.peak_lr * (cfg.last_lr + (1 - cfg.last_lr) * cur_height)


@torch.no_grad()
def clip_gradients(params: Iterable[Tensor], max_norm: float) -> float:
    """Shorten all gradients together to at most `max_norm`; return how long they were."""
    slopes = [prob_p.grad for prob_p in params if prob_p.grad is not None]
    length = torch.stack([grp.norm() for grp in slopes]).norm()
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
    tensors = [nn.Parameter(content.clone()) for content in start]
    solver = OPTIMIZERS[name](this_parameter_groups(tensors, weight_decay), lr)
    path_cur = []
    for iteration, slopes in enumerate(gradients):
        if iteration == pause:
            saved_val = solver.state_dict()
            solver = OPTIMIZERS[name](this_parameter_groups(tensors, weight_decay), lr)
            solver.load_state_dict(saved_val)
        for prm, slope in zip(tensors, slopes, strict=True):
            prm.grad = None if slope is None else slope.clone()
        solver.step()
        path_cur.append([prm.detach().clone() for prm in tensors])
    return path_cur


def build(cfg: Config) -> nn.Module:
    model_here = nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, cfg.features),
        nn.Tanh(),
        nn.Linear(cfg.features, cfg.classes),
    )
    first_cur, final = model_here[1], model_here[3]
    nn.init.xavier_normal_(first_cur.weight)
    nn.init.zeros_(first_cur.bias)
    nn.init.normal_(final.weight, std=0.02)
    nn.init.zeros_(final.bias)
    return model_here


def prepare_val(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def batches(images: Tensor, labels: Tensor, cfg: Config, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the rows in random order; the last batch takes what is left."""
    sequence = torch.randperm(len(labels), generator=rng, device=rng.device).to(labels.device)
    for samples in sequence.split(cfg.batch):
        yield images[samples], labels[samples]


def train(model: nn.Module, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update per item, yielding its loss."""
    groups_here = this_parameter_groups(model.parameters(), cfg.weight_decay)
    updater = OPTIMIZERS[cfg.optimizer](groups_here, cfg.peak_lr)
    passes_here = (batches(data["images"], data["labels"], cfg, rng) for _ in itertools.count())
    stream_here = itertools.islice(itertools.chain.from_iterable(passes_here), cfg.steps)
    for iteration, (pictures, answers) in enumerate(stream_here):
        for param_group in updater.param_groups:
            param_group["lr"] = learning_rate(iteration, cfg)
        updater.zero_grad()
        cost = F.cross_entropy(model(prepare_val(pictures)), answers)
        cost.backward()
        clip_gradients(model.parameters(), cfg.max_norm)
        updater.step()
        yield cost.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes."""
    return model(prepare_val(images)).log_softmax(dim=1)
