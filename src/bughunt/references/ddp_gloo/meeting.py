"""Where the ranks of one process meet, and the process group through which they do.

A rank is a thread here. It talks to a `dist.ProcessGroup` through `dist.all_reduce` and its like, as it would
to the one that `init_process_group("gloo")` gives to a process.

Shapes: W ranks.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

Given = TypeVar("Given")
Answer = TypeVar("Answer")


class Meeting:
    """A round table: nobody leaves with what was said before everybody has spoken."""

    def __init__(self, world: int, patience: float) -> None:
        self.world = world
        self.said: list[Tensor] = [torch.empty(0)] * world
        self.barrier = threading.Barrier(world, timeout=patience)

    def exchange(self, rank: int, tensor: Tensor) -> list[Tensor]:  # W tensors, in the order of the ranks
        self.said[rank] = tensor.detach().clone()
        self.barrier.wait()
        heard = list(self.said)
        self.barrier.wait()
        return heard

    def break_up(self) -> None:
        """Let nobody wait for one who will not come."""
        self.barrier.abort()


class Arriving(dist.Work):
    """What was agreed on; it is in its place once somebody has waited for it."""

    def __init__(self, tensor: Tensor, value: Tensor) -> None:
        super().__init__()
        self.tensor, self.value = tensor, value

    def wait(self, _timeout: object = None) -> bool:
        with torch.no_grad():
            self.tensor.copy_(self.value)
        return True

    def get_future(self) -> torch.futures.Future[list[Tensor]]:
        self.wait()
        future: torch.futures.Future[list[Tensor]] = torch.futures.Future()
        future.set_result([self.tensor])
        return future


class ThreadGroup(dist.ProcessGroup):
    """One rank's seat at the table; every collective is about one tensor."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        super().__init__(rank, meeting.world)
        self.meeting = meeting

    def allreduce(self, tensors: Sequence[Tensor], opts: dist.AllreduceOptions) -> dist.Work:
        (tensor,) = tensors
        heard = torch.stack(self.meeting.exchange(self.rank(), tensor))  # [W, ...]
        largest = opts.reduceOp == dist.ReduceOp.MAX
        return Arriving(tensor, heard.amax(dim=0) if largest else heard.sum(dim=0))

    def broadcast(self, tensors: Sequence[Tensor], opts: dist.BroadcastOptions) -> dist.Work:
        (tensor,) = tensors
        return Arriving(tensor, self.meeting.exchange(self.rank(), tensor)[opts.rootRank])

    def allgather(
        self, places: Sequence[Sequence[Tensor]], tensors: Sequence[Tensor], _opts: object
    ) -> dist.Work:
        (tensor,), (parts,) = tensors, places
        heard = self.meeting.exchange(self.rank(), tensor)
        for part, value in zip(parts, heard, strict=True):
            part.copy_(value)
        return Arriving(tensor, tensor)


@contextmanager
def ranks(meeting: Meeting) -> Iterator[Callable[..., list[float]]]:
    """A thread for each rank; what comes out calls a function of each, at the same time."""
    with ThreadPoolExecutor(meeting.world) as pool:
        yield lambda function, each: gathered([pool.submit(attempt, meeting, function, one) for one in each])


def attempt(meeting: Meeting, function: Callable[[Given], Answer], given: Given) -> Answer:
    try:
        return function(given)
    except BaseException:
        meeting.break_up()
        raise


def gathered(futures: Sequence[Future[Answer]]) -> list[Answer]:
    """The answers of all ranks; where some failed, the failure that was no consequence of another."""
    errors = [error for future in futures if (error := future.exception())]
    own = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    for error in own + errors:
        raise error
    return [future.result() for future in futures]
