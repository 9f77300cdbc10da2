"""Other processes: who is below whom, and waiting for what they do."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path


def descendants(pid: int) -> Iterator[int]:
    """Processes below one, parents first, whichever of its threads has started them."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return
    for child in map(int, " ".join(lists).split()):
        yield child
        yield from descendants(child)


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waited for."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def open_files(pid: int) -> int:
    """How many files a process holds; none where it has ended."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> bool:
    """Whether it holds in the end; long enough for a machine that stands still for a while."""
    until = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < until:
        time.sleep(0.05)
    return bool(holds)
