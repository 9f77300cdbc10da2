"""The zygote: a warm process without secrets that forks one worker per program.

Importing torch and taking the first optimiser step costs seconds; forking a process that has done both costs
milliseconds. The judge's half is `Zygote`, which starts `python -m bughunt.judge.zygote FD DEVICE` and gives out
`Process`es. Each order on the control socket is a line of JSON; an order to spawn brings three descriptors: the
channel of frames, the program's output, and a pipe on which the zygote reports the pid and, later, the end.
"""

import contextlib
import gc
import itertools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import bughunt
from bughunt.errors import MachineError
from bughunt.judge.limits import Limits, adopt_orphans, die_with_parent

START_SECONDS = 180.0
END_SECONDS = 5.0


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its exit status, or minus the signal that killed it, and what it used."""

    status: int
    cpu_seconds: float
    peak_bytes: int


# --- the judge's half -------------------------------------------------------------------------------------


class Zygote:
    """Starts at once, is waited for by the first `spawn`, and is started anew should it ever end."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.folder = Path(tempfile.mkdtemp(prefix="bughunt-"))
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.start()

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        self.ready = False
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(self.folder / "messages", "wb") as messages:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), self.device],
                pass_fds=[theirs.fileno()],
                env=scrubbed_environment(self.device),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            )

    def spawn(self, limits: Limits) -> "Process":
        """A fresh worker, warm and empty."""
        with self.lock:
            if self.process.poll() is not None and self.ready:
                self.stop()
                self.start()
            self.wait_until_ready()
            return Process(self, next(self.numbers), limits)

    def wait_until_ready(self) -> None:
        if self.ready:
            return
        self.control.settimeout(START_SECONDS)
        try:
            self.ready = self.control.recv(16) == b"ready"
        except OSError:
            pass
        if not self.ready:
            said = (self.folder / "messages").read_text(errors="replace").strip()
            raise MachineError(
                f"the process that runs programs did not start: {said[-500:] or 'no message'}",
                "see `bughunt doctor`",
            )

    def order(self, message: dict[str, object], descriptors: list[int] | None = None) -> None:
        self.control.settimeout(END_SECONDS)
        socket.send_fds(self.control, [json.dumps(message).encode()], descriptors or [])

    def stop(self) -> None:
        self.control.close()
        self.process.kill()  # its workers die with it
        self.process.wait()

    def close(self) -> None:
        """End the zygote and all of its workers."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def scrubbed_environment(device: str) -> dict[str, str]:
    """What a worker may know of the environment: nothing that is not the same everywhere."""
    import torch

    roots = dict.fromkeys(str(Path(m.__file__ or "").parents[1]) for m in (bughunt, torch))
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(roots),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_VISIBLE_DEVICES": "",
    }
    if device.startswith("cuda"):
        del environment["CUDA_VISIBLE_DEVICES"]
        kept = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES")
        environment |= {name: os.environ[name] for name in kept if name in os.environ}
        environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # else asking for a GPU spoils the forks
    return environment


class Process:
    """One worker as the judge holds it: its channel, what it printed, and how it ended."""

    def __init__(self, zygote: Zygote, number: int, limits: Limits) -> None:
        self.zygote, self.number, self.limits = zygote, number, limits
        self.folder = Path(tempfile.mkdtemp(dir=zygote.folder))
        self.pid: int | None = None
        self.ending: Ending | None = None
        self.printed = bytearray()
        self.dropped = 0
        self.ended = threading.Event()
        self.channel, theirs = socket.socketpair()
        output, output_end = os.pipe()
        status, status_end = os.pipe()
        try:
            zygote.order(
                {"spawn": number, "limits": asdict(limits), "folder": str(self.folder)},
                [theirs.fileno(), output_end, status_end],
            )
        except OSError:  # the zygote is gone: the reader finds both pipes closed and says so
            pass
        finally:
            theirs.close()
            os.close(output_end)
            os.close(status_end)
        self.reader = threading.Thread(target=self.read, args=(output, status), daemon=True)
        self.reader.start()

    def read(self, output: int, status: int) -> None:
        """Read both pipes to the end, so that a chatty program never waits, and keep the beginning."""
        report = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(status, selectors.EVENT_READ)
            patience = None
            while selector.get_map() and (ready := selector.select(patience)):
                for key, _ in ready:
                    part = os.read(key.fd, 1 << 16)
                    if not part:
                        selector.unregister(key.fd)
                    elif key.fd == output:
                        self.keep(part)
                    else:
                        report += part
                        self.understand(report)
                if status not in selector.get_map():
                    self.ended.set()
                    patience = 1.0  # for somebody who still holds the output
        self.ended.set()
        os.close(output)
        os.close(status)

    def keep(self, part: bytes) -> None:
        room = max(0, self.limits.output_bytes - len(self.printed))
        self.printed += part[:room]
        self.dropped += max(0, len(part) - room)

    def understand(self, report: bytes) -> None:
        for line in report.splitlines():
            message = json.loads(line)
            if "pid" in message:
                self.pid = message["pid"]
            else:
                self.ending = Ending(**message)

    def kill(self) -> None:
        """End the worker and all it started; returns when it is gone."""
        if not self.ended.is_set():
            with contextlib.suppress(OSError):
                self.zygote.order({"kill": self.number})
        if not self.ended.wait(END_SECONDS):  # the zygote itself hangs
            self.zygote.process.kill()
            self.ended.wait(END_SECONDS)

    def close(self) -> None:
        """Kill the worker and remove its folder."""
        self.channel.close()
        self.kill()
        self.reader.join(END_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


# --- the zygote's half ------------------------------------------------------------------------------------


@dataclass
class Child:
    """A worker as the zygote holds it."""

    number: int
    status: int  # the descriptor of its report


class Nursery:
    """Forks workers on demand, reports their ends, and leaves no descendant of them behind."""

    def __init__(self, control: socket.socket, device: str) -> None:
        self.control, self.device = control, device
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
            self.control.sendall(b"ready")
            while True:
                for key, _ in selector.select():
                    if key.fd == self.wake:
                        os.read(self.wake, 4096)
                        self.reap()
                        continue
                    message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 3)
                    if not message:
                        return
                    self.obey(json.loads(message), descriptors)

    def obey(self, order: dict[str, object], descriptors: list[int]) -> None:
        if "kill" in order:
            for pid, child in self.children.items():
                if child.number == order["kill"]:
                    kill_group(pid)
            return
        channel, output, status = descriptors
        os.set_inheritable(status, False)
        pid = self.fork(order, channel, output)
        os.close(channel)
        os.close(output)
        if pid is None:
            os.close(status)
        else:
            self.children[pid] = Child(int(str(order["spawn"])), status)
            report(status, pid=pid)

    def fork(self, order: dict[str, object], channel: int, output: int) -> int | None:
        try:
            pid = os.fork()
        except OSError:  # no room for another process; the judge finds the report closed
            return None
        if pid == 0:
            self.become_worker(order, channel, output)
        return pid

    def become_worker(self, order: dict[str, object], channel: int, output: int) -> NoReturn:
        try:
            from bughunt.judge import worker

            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.detach()
            limits = Limits(**order["limits"])  # type: ignore[arg-type]
            worker.run(channel, output, str(order["folder"]), limits, self.device)
        finally:  # nothing of this process may go on as a second zygote
            os._exit(worker.BROKEN)

    def reap(self) -> None:
        """Report who ended, then end the strays that came to this process when their parent did."""
        while True:
            with contextlib.suppress(ChildProcessError):
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid:
                    self.bury(pid, os.waitstatus_to_exitcode(status), usage)
                    continue
            strays = [pid for pid in own_children() if pid not in self.children]
            if not strays:
                return
            for pid in strays:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def bury(self, pid: int, status: int, usage: "os.resource.struct_rusage") -> None:  # type: ignore[name-defined]
        child = self.children.pop(pid, None)
        if child is None:
            return
        kill_group(pid)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        report(
            child.status, status=status, cpu_seconds=cpu_seconds, peak_bytes=usage.ru_maxrss << 10
        )
        os.close(child.status)


def report(status: int, **message: float) -> None:
    with contextlib.suppress(OSError):  # the judge is not interested any more
        os.write(status, json.dumps(message).encode() + b"\n")


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


def main() -> None:
    """Be the zygote until the judge closes the control socket."""
    control, device = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    control.set_inheritable(False)
    warm_up()
    adopt_orphans()
    Nursery(control, device).serve()


if __name__ == "__main__":
    main()
