"""The zygote's own half: forks workers on demand and reports how each of them ended.

Runs as `python -m bughunt.judge.nursery FD FOLDER TIER` and first says which tier of the sandbox it has, at
most the one that was asked for. Each order on the control socket is a line of JSON; an order to spawn
brings three descriptors: the channel of frames, the program's output, and a pipe for the report of the pid
and, later, of the end.
"""

import contextlib
import gc
import itertools
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bughunt.judge import folders
from bughunt.judge.limits import Limits, adopt_orphans
from bughunt.judge.sandbox.fence import Fence, Tier
from bughunt.judge.sandbox.tier import Standing, survey

STRAY_ROUNDS = 200


@dataclass
class Child:
    """A worker as the zygote holds it."""

    number: int
    slot: int  # the lowest that no other worker has
    status: int  # the descriptor of its report


class Nursery:
    """Forks workers on demand, reports their ends, and leaves no descendant of them behind."""

    def __init__(self, control: socket.socket, fence: Fence) -> None:
        self.control, self.fence = control, fence
        self.children: dict[int, Child] = {}  # by pid
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)

    def serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(self.wake, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == self.wake:
                        os.read(self.wake, 4096)
                        self.reap()
                        continue
                    message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 3)
                    if not message:
                        self.end()
                        return
                    self.obey(json.loads(message), descriptors)

    def obey(self, order: dict[str, object], descriptors: list[int]) -> None:
        if "kill" in order:
            for pid, child in self.children.items():
                if child.number == order["kill"]:
                    kill_group(pid)
            return
        channel, output, status = descriptors
        slot = self.free_slot()
        worker = self.fork(order, slot, descriptors)
        os.close(channel)
        os.close(output)
        if worker is None:
            os.close(status)
        else:
            self.children[worker] = Child(int(str(order["spawn"])), slot, status)
            report(status, pid=worker)

    def free_slot(self) -> int:
        taken = {child.slot for child in self.children.values()}
        return next(slot for slot in itertools.count() if slot not in taken)

    def fork(self, order: dict[str, object], slot: int, descriptors: list[int]) -> int | None:
        try:
            pid = self.fence.fork()
        except OSError:  # no room for another process; the judge finds the report closed
            return None
        if pid == 0:
            self.become_worker(order, slot, *descriptors)
        return pid

    def become_worker(
        self, order: dict[str, object], slot: int, channel: int, output: int, status: int
    ) -> NoReturn:
        from bughunt.judge import worker

        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self.control.detach()
            limits = Limits(**order["limits"])  # type: ignore[arg-type]
            folder = self.fence.shut(slot, int(str(order["spawn"])), limits)
            device = str(order["device"])
            worker.examine(device)
            report(status, fenced=True)
            worker.run(channel, output, folder, device)
        except BaseException:  # to the zygote's messages; once fenced, to the program's output
            traceback.print_exc()
        finally:  # nothing of this process may go on as a second zygote
            os._exit(worker.BROKEN)

    def reap(self) -> None:
        """Report who ended, then end the strays that came to this process when their parent did."""
        for _ in range(STRAY_ROUNDS):
            while (pid := next_dead()) is not None:
                self.bury(pid)
            strays = [pid for pid in own_children() if pid not in self.children]
            if not strays:
                return
            for pid in strays:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def end(self) -> None:
        for pid in self.children:
            kill_group(pid)
        while self.children:
            self.reap()

    def bury(self, pid: int) -> None:
        kill_group(pid)  # before the wait that sets its number free
        _, status, usage = os.wait4(pid, 0)
        child = self.children.pop(pid, None)
        if child is not None:
            self.fence.tidy_up(child.number)
            report(
                child.status,
                status=os.waitstatus_to_exitcode(status),
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                peak_bytes=usage.ru_maxrss << 10,
            )
            os.close(child.status)


def next_dead() -> int | None:
    try:
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return dead.si_pid if dead else None


def report(pipe: int, **message: float) -> None:
    with contextlib.suppress(OSError):  # the judge is not interested any more
        os.write(pipe, json.dumps(message).encode() + b"\n")


def kill_group(pid: int) -> None:
    """Kill a worker's process group, which outlives the worker while it has members."""
    for send, target in ((os.killpg, pid), (os.kill, pid)):
        with contextlib.suppress(OSError):
            send(target, signal.SIGKILL)


def own_children() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def warm_up() -> None:
    """Import what programs need. One thread and no backward pass: forking after either can hang."""
    import numpy  # noqa: F401
    import torch
    import torch._dynamo
    import torch.utils.data

    from bughunt.judge import worker  # noqa: F401

    torch.set_num_threads(1)
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        parameter = torch.zeros(2, requires_grad=True)
        parameter.grad = torch.zeros(2)
        kind([parameter], lr=0.1).step()
    gc.collect()
    gc.freeze()


def introduce(control: socket.socket, found: Standing) -> None:
    control.sendall(json.dumps({"tier": found.tier, "lacking": found.lacking}).encode())


def main() -> None:
    """Be the zygote until the judge closes the control socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    folder, most = Path(sys.argv[2]), Tier(int(sys.argv[3]))
    found = survey(most)
    fence = Fence(found.tier, folder)
    fence.enclose()
    warm_up()
    adopt_orphans()
    fence.furnish()
    introduce(control, found)
    Nursery(control, fence).serve()
    folders.remove(folder)


if __name__ == "__main__":
    main()
