"""The fence around a worker: what each tier keeps from a program, and what it leaves to it."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from operator import le
from pathlib import Path

import pytest
from processes import descendants, open_files, wait_until

import bughunt
from bughunt.judge.limits import Limits
from bughunt.judge.program import ProgramError, open_program
from bughunt.judge.sandbox import privileges
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.zygote import Zygote

FENCED = [Tier.S1, Tier.S2]
HONEST = """
import threading
import torch

def train_a_little():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    thread = threading.Thread(target=lambda: model(torch.ones(3, 2)).sum().backward())
    thread.start()
    thread.join()
    optimizer.step()
    return float(model.weight.grad.sum())
"""


@pytest.fixture(scope="module", params=FENCED, ids=lambda tier: tier.name)
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    with Zygote(tier=request.param, most=request.param) as zygote:
        yield zygote


@pytest.fixture(autouse=True)
def _honest_programs_do_not_notice(zygote: Zygote) -> Iterator[None]:
    """A fence that fails everything also holds everything: controls first and last."""
    serve_honestly(zygote)
    yield
    serve_honestly(zygote)


def serve_honestly(zygote: Zygote) -> None:
    with open_program(zygote, {"train.py": HONEST}) as program:
        assert program.call("train_a_little") == 6.0


def asked(zygote: Zygote, body: str, **limits: float) -> object:
    """What a function with that body returns, in a worker."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f"import ctypes, os, sys, threading, time, torch\ndef answer():\n{lines}"
    chosen = Limits(**{"reply_seconds": 30, **limits})
    with open_program(zygote, {"train.py": text}, limits=chosen) as program:
        return program.call("answer")


def refusal(zygote: Zygote, body: str, **limits: float) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        asked(zygote, body, **limits)
    return caught.value


def test_the_interpreter_torch_and_numpy_are_all_there(zygote: Zygote) -> None:
    body = (
        "import numpy.fft, sqlite3, email, torch.distributions, zoneinfo\n"
        "return numpy.fft.fft([1, 0])[0].real"
    )
    assert asked(zygote, body) == 1.0


def test_bughunts_own_files_are_not(zygote: Zygote) -> None:
    """Neither as modules nor as files, wherever they are installed."""
    message = refusal(zygote, "import bughunt.references").message
    assert message.startswith(("PermissionError", "ModuleNotFoundError"))
    path = str(Path(bughunt.__file__).with_name("task.py"))
    assert refusal(zygote, f"open({path!r})").message.startswith(("PermissionError", "FileNotFoundError"))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/root", "/home", "/dev/kmsg", "/sys/kernel", sys.executable]
)
def test_files_of_the_host_cannot_be_read(zygote: Zygote, path: str) -> None:
    body = f"return os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}, 'rb').read(1)"
    assert refusal(zygote, body).message.startswith(("PermissionError", "FileNotFoundError"))


def test_what_may_be_read_may_not_be_written(zygote: Zygote) -> None:
    error = refusal(zygote, "open(torch.__file__, 'r+')")
    assert error.message.startswith(("PermissionError", "OSError: [Errno 30]"))
    assert "Permission" in refusal(zygote, "os.chmod(torch.__file__, 0o666)").message


def test_its_folder_is_a_programs_own_to_write_to(zygote: Zygote) -> None:
    body = (
        "import tempfile, pathlib\n"
        "os.mkdir('a')\n"
        "pathlib.Path('a/b').write_text('kept')\n"
        "os.rename('a/b', 'c')\n"
        "with tempfile.TemporaryFile() as file: file.write(b'x')\n"
        "return open('c').read(), sorted(os.listdir('.')), tempfile.gettempdir() == os.getcwd()"
    )
    assert asked(zygote, body) == ("kept", ["a", "c", "train.py"], True)


def test_the_next_program_finds_nothing_of_the_last(zygote: Zygote) -> None:
    asked(zygote, "open('left', 'w').write('x')")
    assert asked(zygote, "return os.listdir('.')") == ["train.py"]


@pytest.mark.parametrize(
    "call", ["os.fork()", "os.execv('/bin/true', ['true'])", "os.posix_spawn('/bin/true', ['true'], {})"]
)
def test_no_process_or_program_can_be_started(zygote: Zygote, call: str) -> None:
    assert refusal(zygote, call).message.startswith("PermissionError")


def test_no_line_to_the_outside_can_be_opened(zygote: Zygote) -> None:
    assert refusal(zygote, "import socket\nsocket.socket()").message.startswith("PermissionError")


def test_a_program_has_no_capability_and_gets_none(zygote: Zygote) -> None:
    status = asked(zygote, "return open('/proc/self/status').read()")
    facts = dict(line.split(":\t", 1) for line in str(status).splitlines() if ":\t" in line)
    sets = [int(facts[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert sets == [0] * 5
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


def test_limits_can_be_read_and_not_raised(zygote: Zygote) -> None:
    body = "import resource\nreturn resource.getrlimit(resource.RLIMIT_CPU)"
    assert asked(zygote, body, cpu_seconds=17) == (17, 18)
    body = "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    assert refusal(zygote, body).message.startswith(("ValueError", "PermissionError"))


def test_workers_do_not_see_one_another(zygote: Zygote) -> None:
    text = "import os\ndef place(): return os.getcwd(), os.getpid(), os.getuid()\n"
    with open_program(zygote, {"train.py": text}) as one, open_program(zygote, {"train.py": text}) as two:
        (folder, pid, uid), (_, _, other_uid) = one.call("place"), two.call("place")
        assert (uid != other_uid) == (zygote.tier == Tier.S2 and os.geteuid() == 0)
        assert refusal(zygote, f"os.kill({pid} + 1000000 * (os.getpid() == {pid}), 0)").kind == "error"
        if zygote.tier == Tier.S1:
            assert refusal(zygote, f"os.listdir({folder!r})").message.startswith("PermissionError")


# --- what has gone wrong in fences before ---


def test_root_becomes_an_ordinary_user(zygote: Zygote) -> None:
    """A namespace that maps another user to root leaves it root's files."""
    if zygote.tier == Tier.S2 and os.geteuid() == 0:
        assert asked(zygote, "return os.getresuid()") == (privileges.FIRST_UID,) * 3
        assert asked(zygote, "return os.getgroups()") == []
    else:
        assert asked(zygote, "return os.getuid()") == os.geteuid()


def test_a_worker_is_open_to_itself_again(zygote: Zygote) -> None:
    """The zygote closes its memory to others of its user, which a worker inherits and has to undo."""
    body = "return os.stat('/proc/self').st_uid == os.getuid(), len(open('/proc/self/environ').read()) > 0"
    assert asked(zygote, body) == (True, True)


def test_threads_run_out_before_the_machine_does(zygote: Zygote) -> None:
    """A limit of processes does not bind root, and seccomp does not count threads."""
    body = (
        "made = 0\n"
        "try:\n"
        "    while made < 3000:\n"
        "        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "        made += 1\n"
        "except (RuntimeError, MemoryError): pass\n"
        "return made"
    )
    made = asked(zygote, body, memory_bytes=2 << 30)
    assert isinstance(made, int)
    assert 16 < made < (Limits().threads if zygote.tier == Tier.S2 else 2500)


@pytest.mark.parametrize(
    "attempt",
    [
        "os.kill(os.getppid() or 2, 0)",
        "os.kill(-1, 0)",
        "open(f'/proc/{os.getppid() or 2}/environ').read()",
        "open(f'/proc/{os.getppid() or 2}/mem', 'rb')",
    ],
    ids=["signal", "signal to all", "environment", "memory"],
)
def test_the_parent_is_out_of_reach(zygote: Zygote, attempt: str) -> None:
    assert refusal(zygote, attempt).kind == "error"


def test_proc_shows_the_program_alone(zygote: Zygote) -> None:
    if zygote.tier == Tier.S2:
        assert asked(zygote, "return [p for p in os.listdir('/proc') if p.isdigit()]") == ["1"]
    for place in ("keys", "1/environ" if zygote.tier == Tier.S1 else "2/environ", "sysrq-trigger"):
        assert refusal(zygote, f"open('/proc/{place}').read()").kind == "error"


def test_a_killed_program_has_said_what_it_has_said(zygote: Zygote) -> None:
    text = "import time\nprint('before')\ntime.sleep(1000)"
    with pytest.raises(ProgramError) as caught:
        open_program(zygote, {"train.py": text}, limits=Limits(reply_seconds=2.0))
    assert (caught.value.kind, caught.value.output) == ("timeout", "before\n")


def test_a_sleeper_uses_no_cpu_and_is_ended_by_the_clock(zygote: Zygote) -> None:
    begun = time.monotonic()
    assert refusal(zygote, "time.sleep(1000)", reply_seconds=0.5, cpu_seconds=1).kind == "timeout"
    assert time.monotonic() - begun < 50


@pytest.mark.parametrize(
    "prelude", ["", "import signal\nsignal.signal(24, signal.SIG_IGN)\n"], ids=["plain", "deaf"]
)
def test_a_program_that_spins_runs_out_of_cpu_seconds(zygote: Zygote, prelude: str) -> None:
    error = refusal(zygote, prelude + "while True: pass", cpu_seconds=1)
    assert (error.kind, error.message) == ("timeout", "used up its 1 CPU seconds")


def test_memory_is_refused_at_the_limit(zygote: Zygote) -> None:
    body = "held = []\nwhile True: held.append(torch.ones(1 << 24))"
    assert refusal(zygote, body, memory_bytes=1 << 30).kind == "memory"


@pytest.mark.parametrize(
    "area",
    [
        "mmap.mmap(-1, 1 << 20)",
        "mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20)",
        "mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100)",
    ],
    ids=["shared", "zeros", "stack"],
)
def test_memory_that_is_not_counted_cannot_be_had(zygote: Zygote, area: str) -> None:
    """RLIMIT_DATA knows neither what could be shared nor what calls itself a stack."""
    message = refusal(zygote, f"import mmap\n{area}").message
    assert message.startswith(("PermissionError", "FileNotFoundError"))


def test_address_space_that_is_only_reserved_is_free(zygote: Zygote) -> None:
    """A GPU's driver reserves more than there is memory, so that the limit is not one of address space."""
    body = (
        "import mmap\n"
        "flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000\n"
        "return len(mmap.mmap(-1, 1 << 36, flags=flags, prot=0))"
    )
    assert asked(zygote, body, memory_bytes=1 << 30) == 1 << 36


def test_the_zygote_forks_with_a_single_thread(zygote: Zygote) -> None:
    """A fork beside threads of OpenMP or autograd can hang."""
    pid = next(descendants(zygote.process.pid)) if zygote.tier == Tier.S2 else zygote.process.pid
    assert "\nThreads:\t1\n" in Path(f"/proc/{pid}/status").read_text()
    assert (
        asked(zygote, "x = torch.ones(2, requires_grad=True)\nx.sum().backward()\nreturn x.grad") is not None
    )


def test_a_hundred_programs_leave_nothing_behind(zygote: Zygote) -> None:
    before = footprint(zygote)
    for _ in range(100):
        with open_program(zygote, {"train.py": "def f(): return 1\n"}) as program:
            assert program.call("f") == 1
    # not the same: what ended before may still have been on its way out
    assert wait_until(lambda: all(map(le, footprint(zygote), before))), (footprint(zygote), before)


def footprint(zygote: Zygote) -> tuple[set[int], int, int, set[str]]:
    """Its processes and ours, how many files they hold, our threads, and the names in its folder."""
    ours = {os.getpid(), zygote.process.pid, *descendants(zygote.process.pid)}
    names = {path.name for path in zygote.folder.iterdir()}
    return ours, sum(map(open_files, ours)), threading.active_count(), names
