"""The zygote: a warm process without secrets that forks one worker per program.

Importing torch and taking the first optimiser step costs seconds; forking a process that has done both
costs milliseconds. `Zygote` starts that process and gives out its forks as `Process`es.
"""

import contextlib
import importlib.util
import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from bughunt.errors import MachineError
from bughunt.judge import devices, folders
from bughunt.judge.limits import Limits
from bughunt.judge.sandbox.fence import Tier

START_SECONDS = 180.0
END_SECONDS = 5.0


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its exit status, or minus the signal that killed it, and what it used."""

    status: int
    cpu_seconds: float
    peak_bytes: int


# --- the judge's half -------------------------------------------------------------------------------------


class Launcher(Protocol):
    """Who starts workers."""

    def spawn(self, limits: Limits, device: str = "cpu") -> "Process":
        """A fresh worker."""

    def close(self) -> None:
        """End all workers."""


class Zygote:
    """Starts at once, is waited for by the first `spawn`, and is started anew should it ever end.

    Its workers are fenced in as well as the machine can, at most by the tier `most`; where that is less than
    `tier`, nothing is run. A GPU needs devices that the fences of S1 and S2 keep out.
    """

    def __init__(self, device: str = "cpu", tier: Tier | None = None, *, most: Tier = Tier.S2) -> None:
        self.device = device
        self.least, self.most = tier or Tier.S0, Tier.S0 if device.startswith("cuda") else most
        self.lacking: dict[str, str] = {}  # why there are no stronger tiers here
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.reservation = devices.reserve(device)
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
        self.folder = Path(tempfile.mkdtemp(prefix="bughunt-"))
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(self.folder / "messages", "wb") as messages:
            self.process = subprocess.Popen(
                self.command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=self.environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            )

    def command(self, descriptor: int) -> list[str]:
        words = [str(descriptor), str(self.folder), str(int(self.most))]
        return [sys.executable, "-P", "-m", "bughunt.judge.nursery", *words]

    def environment(self) -> dict[str, str]:
        return scrubbed_environment(self.device)

    def spawn(self, limits: Limits, device: str = "cpu") -> "Process":
        """A fresh worker, warm and empty; for a GPU the zygote must have been made for one."""
        with self.lock:
            if self.process.poll() is not None and self.ready:
                self.stop()
                self.start()
            self.wait_until_ready()
            return Process(self, next(self.numbers), limits, device)

    def wait_until_ready(self) -> None:
        if not self.ready:
            self.meet()
            self.ready = True
        self.insist()

    def meet(self) -> None:
        """Hear from the zygote, once it is warm, how well it fences programs in."""
        self.control.settimeout(START_SECONDS)
        introduction = b""
        with contextlib.suppress(OSError):
            introduction = self.control.recv(1 << 16)
        if not introduction:
            raise MachineError(
                f"the process that runs programs did not start: {self.messages() or 'no message'}",
                "see `bughunt doctor`",
            )
        found = json.loads(introduction)
        self.tier, self.lacking = Tier(found["tier"]), found["lacking"]

    def insist(self) -> None:
        """Refuse a fence that is weaker than what was asked for."""
        if self.tier < self.least:
            why = self.lacking.get(self.least.name, "a GPU is used")
            raise MachineError(
                f"programs can be fenced in to {self.tier.name} here, {self.least.name} is asked for: {why}",
                "see `bughunt doctor` and docs/security.md",
            )

    def messages(self) -> str:
        """What the zygote has said last."""
        with contextlib.suppress(OSError):
            return (self.folder / "messages").read_text(errors="replace").strip()[-500:]
        return ""

    def order(self, message: dict[str, object], descriptors: list[int] | None = None) -> None:
        self.control.settimeout(END_SECONDS)
        socket.send_fds(self.control, [json.dumps(message).encode()], descriptors or [])

    def stop(self) -> None:
        self.control.close()  # on which it ends its workers and itself
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()  # and its workers die with it
            self.process.wait()
        folders.remove(self.folder)

    def over(self) -> None:
        """A worker is closed."""

    def close(self) -> None:
        """End the zygote and all of its workers."""
        self.stop()
        if self.reservation is not None:
            self.reservation.close()


def scrubbed_environment(device: str) -> dict[str, str]:
    """What a worker may know of the environment: nothing that is not the same everywhere."""
    found = [importlib.util.find_spec(name) for name in ("bughunt", "torch")]
    roots = dict.fromkeys(str(Path(spec.origin or "").parents[1]) for spec in found if spec)
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

    def __init__(self, zygote: Zygote, number: int, limits: Limits, device: str) -> None:
        self.zygote, self.number, self.limits = zygote, number, limits
        self.pid: int | None = None  # as the zygote counts
        self.fenced = False  # nothing of the program has run before
        self.ending: Ending | None = None
        self.printed = bytearray()
        self.dropped = 0
        self.ended = threading.Event()
        self.channel, theirs = socket.socketpair()
        output, output_end = os.pipe()
        status, status_end = os.pipe()
        try:
            zygote.order(
                {
                    "spawn": number,
                    "limits": asdict(limits),
                    "device": device,
                },
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
            elif "fenced" in message:
                self.fenced = True
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
        """Kill the worker, whose folder goes with it."""
        self.channel.close()
        self.kill()
        self.reader.join(END_SECONDS)
        self.zygote.over()
