"""Several ranks train one network together, each on its own rows, passing messages around a ring.

The ranks live in one process, as a list; what one knows of another comes in messages to its neighbour. Every
rank holds all weights, sums up its own part of the gradient, keeps the optimiser's memory for that part
alone, and gets the other parts of the new weights from the others.

Shapes: W ranks, B rows of a rank's batch, N numbers in all weights together, K classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Config:
    world: int = 4
    pixels: int = 144
    hidden: int = 56
    classes: int = 10
    batch: int = 22  # of each rank
    steps: int = 240
    lr: float = 6e-3
    last_lr: float = 0.05  # as a share of the first
    weight_decay: float = 0.3
    max_norm: float = 0.8


def split(buffer: Tensor, world: int) -> list[Tensor]:  # [N] -> W parts
    """Parts of nearly equal length, the longer ones first."""
    return list(buffer.tensor_split(world))


def reduce_scatter(buffers: list[Tensor]) -> tuple[list[Tensor], list[int]]:  # W of [N] -> W parts
    """Rank r ends with part r of the sum of all buffers; also the bytes that each rank has sent.

    A part travels once around the ring and grows at every stop.
    """
    world = len(buffers)
    parts = [[part.clone() for part in split(buffer, world)] for buffer in buffers]
    sent = [0] * world
    for step in range(world - 1):
        messages = [parts[rank][(rank - 1 - step) % world].clone() for rank in range(world)]
        for rank, message in enumerate(messages):
            neighbour = (rank + 1) % world
            parts[neighbour][(rank - 1 - step) % world] += message
            sent[rank] += message.numel() * message.element_size()
    return [parts[rank][rank] for rank in range(world)], sent


def all_gather(owned: list[Tensor]) -> tuple[list[Tensor], list[int]]:  # W parts -> W of [N]
    """Every rank ends with all parts in order; also the bytes that each rank has sent."""
    world = len(owned)
    known: list[dict[int, Tensor]] = [{rank: part.clone()} for rank, part in enumerate(owned)]
    sent = [0] * world
    for step in range(world - 1):
        messages = [known[rank][(rank - step) % world] for rank in range(world)]
        for rank, message in enumerate(messages):
            neighbour = (rank + 1) % world
            known[neighbour][(rank - step) % world] = message.clone()
            sent[rank] += message.numel() * message.element_size()
    return [torch.cat([parts[index] for index in range(world)]) for parts in known], sent


def all_reduce(buffers: list[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Every rank ends with the sum of all buffers."""
    parts, first = reduce_scatter(buffers)
    sums, second = all_gather(parts)
    return sums, [one + other for one, other in zip(first, second, strict=True)]


def shard(count: int, rank: int, world: int, seed: int, epoch: int) -> Tensor:
    """The rows of one rank in one pass: the same shuffle on all ranks, of which each takes every W-th."""
    rng = Generator().manual_seed(seed + epoch)
    return torch.randperm(count, generator=rng)[rank::world]


def rank_batches(count: int, rank: int, seed: int, cfg: Config) -> Iterator[Tensor]:
    """Pass after pass; as many batches on every rank, of which the last may be short or empty."""
    longest = math.ceil(count / cfg.world)
    epoch = 0
    while True:
        rows = shard(count, rank, cfg.world, seed, epoch)
        for start in range(0, longest, cfg.batch):
            yield rows[start : start + cfg.batch]
        epoch += 1


def flatten(tensors: list[Tensor]) -> Tensor:  # -> [N]
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@torch.no_grad()
def write(model: nn.Module, flat: Tensor) -> None:
    """Put `[N]` numbers into the parameters, in their order."""
    start = 0
    for p in model.parameters():
        p.copy_(flat[start : start + p.numel()].view_as(p))
        start += p.numel()


def broadcast(replicas: nn.ModuleList) -> None:
    """Rank 0 tells everybody its weights."""
    flat = flatten(list(replicas[0].parameters()))
    for replica in replicas:
        write(replica, flat)


class PartAdamW:
    """The optimiser of one rank: it remembers its own part of the weights and no other."""

    def __init__(self, part: Tensor, cfg: Config) -> None:
        self.mean = torch.zeros_like(part)
        self.square = torch.zeros_like(part)
        self.weight_decay = cfg.weight_decay
        self.steps = 0

    def step(self, part: Tensor, grad: Tensor, lr: float) -> Tensor:
        self.steps += 1
        self.mean.lerp_(grad, 0.1)
        self.square.lerp_(grad**2, 0.02)
        mean = self.mean / (1 - 0.9**self.steps)
        square = self.square / (1 - 0.98**self.steps)
        return part * (1 - lr * self.weight_decay) - lr * mean / (square.sqrt() + 1e-8)


def build(cfg: Config) -> nn.ModuleList:
    """One network a rank; they begin apart."""
    return nn.ModuleList(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(cfg.pixels, cfg.hidden),
            nn.Tanh(),
            nn.Linear(cfg.hidden, cfg.classes),
        )
        for _ in range(cfg.world)
    )


def prepare(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def learning_rate(step: int, cfg: Config) -> float:
    """Half a cosine from the first rate down to its last share."""
    height = 0.5 * (1 + math.cos(math.pi * step / cfg.steps))
    return cfg.lr * (cfg.last_lr + (1 - cfg.last_lr) * height)


def local_gradient(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # -> [N], [2]
    """The gradient of the sum of the losses of a rank's rows; that sum, and how many rows there are."""
    model.zero_grad()
    loss = F.cross_entropy(model(prepare(images)), labels, reduction="sum")
    loss.backward()
    gradient = flatten([p.grad for p in model.parameters()])
    return gradient, torch.stack([loss.detach(), loss.new_tensor(float(len(labels)))])


def clip_scale(parts: list[Tensor], max_norm: float) -> float:
    """What shortens the whole gradient, of which each rank has a part, to at most `max_norm`."""
    squares, _ = all_reduce([(part**2).sum().reshape(1) for part in parts])
    return min(1.0, max_norm / (squares[0].sqrt().item() + 1e-6))


def train(model: nn.ModuleList, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update of all ranks per item, yielding the mean loss over their rows."""
    broadcast(model)
    images, labels = data["images"], data["labels"]
    seed = int(torch.randint(2**31, (), generator=rng, device=rng.device))
    streams = [rank_batches(len(labels), rank, seed, cfg) for rank in range(cfg.world)]
    weights = flatten([p.detach() for p in model[0].parameters()])
    optimizers = [PartAdamW(part, cfg) for part in split(weights, cfg.world)]
    for step in range(cfg.steps):
        gradients, sums = [], []
        for replica, stream in zip(model, streams, strict=True):
            rows = next(stream).to(labels.device)
            gradient, total = local_gradient(replica, images[rows], labels[rows])
            gradients.append(gradient)
            sums.append(total)
        totals, _ = all_reduce(sums)
        loss, count = totals[0].tolist()
        parts, _ = reduce_scatter(gradients)
        parts = [part / count for part in parts]
        scale = clip_scale(parts, cfg.max_norm)
        lr = learning_rate(step, cfg)
        moved = []
        for rank, optimizer in enumerate(optimizers):
            own = split(flatten([p.detach() for p in model[rank].parameters()]), cfg.world)[rank]
            moved.append(optimizer.step(own, scale * parts[rank], lr))
        weights_of_all, _ = all_gather(moved)
        for replica, flat in zip(model, weights_of_all, strict=True):
            write(replica, flat)
        yield loss / count


@torch.no_grad()
def predict(model: nn.ModuleList, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes, by the last rank."""
    return model[-1](prepare(images)).log_softmax(dim=1)
