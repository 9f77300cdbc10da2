"""Several ranks train one network together, each on its own rows, through `torch.distributed`.

Every rank has a copy of the network and an optimiser of its own. They begin with the weights of rank 0 and
see the same mean gradient at every step, so that the copies stay equal without being compared. `rank_steps`
is all that a rank does; it asks its process group for its place and does not know whether the others are
threads or processes on other machines.

Shapes: B rows of a rank's batch, K classes.
"""

from collections.abc import Iterator

import torch
from averaging import averaged
from meeting import Meeting, ThreadGroup, ranks
from sampler import ShardSampler, batches, shard
from settings import Config
from torch import Generator, Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Config", "build", "learning_rate", "predict", "shard", "sum_of_all", "train"]


def network(cfg: Config) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(cfg.pixels, cfg.hidden),
        nn.GELU(),
        nn.Linear(cfg.hidden, cfg.classes),
    )


def build(cfg: Config) -> nn.ModuleList:
    """One network a rank; they begin apart."""
    return nn.ModuleList(network(cfg) for _ in range(cfg.world))


def prepare(images: Tensor) -> Tensor:
    """Bytes to numbers around zero."""
    return (images.float() / 255 - 0.4) / 0.2


def learning_rate(step: int, cfg: Config) -> float:
    """A climb over the first steps, then a straight line down to nothing."""
    if step < cfg.warmup:
        return cfg.lr * (step + 1) / cfg.warmup
    return cfg.lr * (cfg.steps - step) / (cfg.steps - cfg.warmup)


def mean_over_ranks(value: Tensor, group: dist.ProcessGroup) -> float:
    total = value.detach().clone()
    dist.all_reduce(total, group=group)
    total /= group.size()
    return total.item()


def update(net: nn.Module, optimizer: torch.optim.Optimizer, lr: float, cfg: Config) -> None:
    """One step along the mean gradient, which is not longer than the limit."""
    for settings in optimizer.param_groups:
        settings["lr"] = lr
    nn.utils.clip_grad_norm_(net.parameters(), cfg.max_norm)
    optimizer.step()


def rank_steps(
    net: nn.Module, data: dict[str, Tensor], cfg: Config, seed: int, group: dist.ProcessGroup
) -> Iterator[float]:
    """What one rank does: an update per item, whose value is the mean loss over the rows of all ranks."""
    images, labels = data["images"], data["labels"]
    sampler = ShardSampler(len(labels), group.rank(), group.size(), seed)
    stream = batches(sampler, cfg.batch)
    steps = by_wrapper if cfg.averaging == "wrapper" else by_hooks
    for loss in steps(net, ((images[rows], labels[rows]) for rows in stream), cfg, group):
        yield mean_over_ranks(loss, group)


def optimizer_of(net: nn.Module, cfg: Config) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        net.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay, nesterov=True
    )


def by_wrapper(
    net: nn.Module, stream: Iterator[tuple[Tensor, Tensor]], cfg: Config, group: dist.ProcessGroup
) -> Iterator[Tensor]:
    """PyTorch's own wrapper tells everybody the weights of rank 0 and averages gradients by itself."""
    model = DistributedDataParallel(net, process_group=group)
    optimizer = optimizer_of(net, cfg)
    for step in range(cfg.steps):
        images, labels = next(stream)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(prepare(images)), labels)
        loss.backward()
        update(net, optimizer, learning_rate(step, cfg), cfg)
        yield loss


def by_hooks(
    net: nn.Module, stream: Iterator[tuple[Tensor, Tensor]], cfg: Config, group: dist.ProcessGroup
) -> Iterator[Tensor]:
    """The same by hand."""
    with averaged(net, group, cfg.bucket) as averager:
        optimizer = optimizer_of(net, cfg)
        for step in range(cfg.steps):
            images, labels = next(stream)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(prepare(images)), labels)
            loss.backward()
            averager.finish()
            update(net, optimizer, learning_rate(step, cfg), cfg)
            yield loss


def train(model: nn.ModuleList, data: dict[str, Tensor], cfg: Config, rng: Generator) -> Iterator[float]:
    """Make one update of all ranks per item, yielding the mean loss over their rows."""
    seed = int(torch.randint(2**31, (), generator=rng, device=rng.device))
    meeting = Meeting(cfg.world, cfg.patience)
    runs = [rank_steps(net, data, cfg, seed, ThreadGroup(meeting, rank)) for rank, net in enumerate(model)]
    with ranks(meeting) as of_each:
        for _ in range(cfg.steps):
            yield of_each(next, runs)[0]


def sum_of_all(tensors: list[Tensor], cfg: Config) -> list[Tensor]:
    """What each rank has after an all-reduce to which each came with one of the tensors."""
    meeting = Meeting(len(tensors), cfg.patience)

    def meet(rank: int) -> Tensor:
        own = tensors[rank].clone()
        dist.all_reduce(own, group=ThreadGroup(meeting, rank))
        return own

    with ranks(meeting) as of_each:
        return of_each(meet, range(len(tensors)))


@torch.no_grad()
def predict(model: nn.ModuleList, images: Tensor) -> Tensor:  # [B, height, width] -> [B, K]
    """Log-probabilities of the classes, by the last rank."""
    return model[-1](prepare(images)).log_softmax(dim=1)
