"""Data-parallel training by hand: hooks that average gradients while the backward pass is still going on.

Shapes: N numbers of a bucket.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch import distributed as dist


class Bucket:
    """Parameters whose gradients travel together."""

    def __init__(self) -> None:
        self.params: list[Tensor] = []
        self.missing = 0  # gradients of this backward pass
        self.flat = torch.empty(0)  # [N]
        self.work: dist.Work | None = None

    def size(self) -> int:
        return sum(p.numel() for p in self.params)

    def send(self, group: dist.ProcessGroup) -> None:
        self.flat = torch.cat([p.grad.reshape(-1) for p in self.params])
        self.work = dist.all_reduce(self.flat, group=group, async_op=True)

    def receive(self, world: int) -> None:
        """Put the mean over the ranks where each had its own gradient."""
        self.work.wait()
        self.flat /= world
        start = 0
        for p in self.params:
            p.grad.copy_(self.flat[start : start + p.numel()].view_as(p))
            start += p.numel()
        self.missing = len(self.params)


def pack(params: list[Tensor], limit: int) -> list[Bucket]:
    """Buckets of at most `limit` numbers, or of one parameter; the last layer's gradient is there first."""
    buckets = [Bucket()]
    for p in reversed(params):
        if buckets[-1].params and buckets[-1].size() + p.numel() > limit:
            buckets.append(Bucket())
        buckets[-1].params.append(p)
        buckets[-1].missing += 1
    return buckets


class Averager:
    """Watches the gradients of one rank's network and sends off each bucket that is full."""

    def __init__(self, net: nn.Module, group: dist.ProcessGroup, limit: int) -> None:
        self.group = group
        params = list(net.parameters())
        for p in params:
            dist.broadcast(p.data, group_src=0, group=group)
        self.buckets = pack(params, limit)
        self.hooks = [
            p.register_post_accumulate_grad_hook(self.watcher(bucket))
            for bucket in self.buckets
            for p in bucket.params
        ]

    def watcher(self, bucket: Bucket) -> Callable[[Tensor], None]:
        def ready(_: Tensor) -> None:
            bucket.missing -= 1
            if bucket.missing == 0:
                bucket.send(self.group)

        return ready

    def finish(self) -> None:
        """After the backward pass: all gradients are the mean of those of all ranks."""
        for bucket in self.buckets:
            bucket.receive(self.group.size())

    def stop(self) -> None:
        for hook in self.hooks:
            hook.remove()


@contextmanager
def averaged(net: nn.Module, group: dist.ProcessGroup, limit: int) -> Iterator[Averager]:
    """The hooks hang on the parameters as long as the training goes on."""
    averager = Averager(net, group, limit)
    try:
        yield averager
    finally:
        averager.stop()
