"""What the reference did on this machine, kept on disk from one judge to the next.

An entry is found under a digest of all that it rests on: the program, the task, the seed, the modules that
make it, and the machine, for other kernels round otherwise. One that was damaged is passed over. Whoever uses
an entry first runs a canary: a few steps anew, which have to come out the same.
"""

import contextlib
import hashlib
import inspect
import json
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch

from bughunt.files import write_bytes
from bughunt.judge import wire
from bughunt.judge.memory import maker
from bughunt.task import Task

KEPT_BYTES = 256 << 20  # of all entries; the least used go first
CPU_FACTS = ("model name", "flags", "CPU implementer", "CPU part", "Features")
MAKERS = ("curves", "differential", "mapping", "models", "pinning", "wire", "worker")
DATA = Path(__file__).parents[1] / "references" / "data"


class Archive:
    """A folder of entries, each plain data in a file of its own."""

    def __init__(self, folder: Path | None = None, most: int = KEPT_BYTES) -> None:
        default = Path(platformdirs.user_cache_dir("bughunt", appauthor=False)) / "judge"
        self._folder, self._most = folder or default, most

    def get(self, key: str) -> Any:
        """The value of an entry, or None where there is none that is whole."""
        path = self._folder / key
        try:
            kept = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        digest, frame = kept[:32], kept[32:]
        if hashlib.sha256(frame).digest() != digest:
            return None
        with contextlib.suppress(wire.MalformedError):
            return wire.decode(frame)
        return None

    def put(self, key: str, value: Any) -> None:
        """Keep a value; one that is too big or no plain data, or that there is no room for, is not kept."""
        try:
            frame = wire.encode(value)
            write_bytes(self._folder / key, hashlib.sha256(frame).digest() + frame, mode=0o600)
            self._make_room()
        except (wire.UnsendableError, OSError):
            return

    def _make_room(self) -> None:
        entries = sorted(os.scandir(self._folder), key=lambda entry: entry.stat().st_mtime, reverse=True)
        total = 0
        for entry in entries:
            total += entry.stat().st_size
            if total > self._most:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def key(what: str, files: Mapping[str, str], task: Task, device: str, *parts: object) -> str:
    """The name of an entry: a digest of what it is and of all that it rests on."""
    told = [what, sorted(files.items()), _task(task), _makers(), machine(device), *parts]
    return hashlib.sha256(json.dumps(told, default=repr).encode()).hexdigest()


@cache
def machine(device: str = "cpu") -> dict[str, Any]:
    """What rounding may depend on: processor, kernels, libraries and threads."""
    found = {
        "device": device,
        "processor": [platform.machine(), *_processor()],
        "python": sys.version_info[:2],
        "torch": [torch.__version__, torch.__config__.show(), torch.backends.cpu.get_cpu_capability()],
        "numpy": [np.__version__, repr(np.show_config(mode="dicts"))],
        "threads": 1,
    }
    if device.startswith("cuda"):
        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        found["cuda"] = [name, capability, torch.version.cuda, torch.backends.cudnn.version()]
    return found


def _processor() -> list[str]:
    """What Linux tells of the first processor; nothing elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return []
    return sorted(line for line in first.splitlines() if line.split("\t")[0].split(":")[0] in CPU_FACTS)


def _task(task: Task) -> list[object]:
    """The task's own files, and what it says of its training."""
    places = {inspect.getsourcefile(of) for of in (maker(task), task.measure)} - {None}
    texts = [Path(place).read_text(encoding="utf-8") for place in sorted(map(str, places))]
    said = [task.slug, dict(task.configurations), task.steps, task.probes, task.pinned_steps, task.rng]
    return [*said, *texts, *_data()]


@cache
def _data() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*.py"))]


@cache
def _makers() -> list[str]:
    return [(Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8") for name in MAKERS]
