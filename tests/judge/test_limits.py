"""A hostile or broken program costs its own verdict and nothing else, even without a fence around it."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from processes import descendants, open_files, wait_until

from bughunt.judge.limits import Limits
from bughunt.judge.program import ProgramError, RemoteProgram, open_program
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.zygote import Zygote

HONEST = """
def double(x):
    return 2 * x
"""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(most=Tier.S0) as zygote:
        yield zygote


@pytest.fixture(autouse=True)
def _others_are_not_affected(zygote: Zygote) -> Iterator[None]:
    """Before and after each attack an honest program is served."""
    serve_honestly(zygote)
    yield
    serve_honestly(zygote)


def serve_honestly(zygote: Zygote) -> None:
    with open_program(zygote, {"train.py": HONEST}) as program:
        assert program.call("double", torch.ones(2)).tolist() == [2, 2]


def attacked(zygote: Zygote, body: str, **limits: float) -> tuple[ProgramError, RemoteProgram]:
    """The error of a program whose `attack` does what the body says."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    text = f"import os, sys, time, signal, socket, threading, torch\ndef attack():\n{lines}"
    limits = Limits(**{"reply_seconds": 20, **limits})
    with open_program(zygote, {"train.py": text}, limits=limits) as program:
        with pytest.raises(ProgramError) as caught:
            program.call("attack")
        return caught.value, program


def test_a_program_that_never_answers_times_out(zygote: Zygote) -> None:
    started = time.monotonic()
    error, _ = attacked(zygote, "time.sleep(1000)", reply_seconds=0.5)
    assert error.kind == "timeout"
    assert time.monotonic() - started < 50


def test_a_program_has_a_budget_for_all_answers_together(zygote: Zygote) -> None:
    text = "import time\ndef nap():\n    time.sleep(0.2)\n"
    with open_program(zygote, {"train.py": text}, limits=Limits(wall_seconds=3)) as program:
        with pytest.raises(ProgramError) as caught:
            [program.call("nap") for _ in range(20)]
        assert caught.value.kind == "timeout"


@pytest.mark.attack
@pytest.mark.parametrize(
    "prelude", ["", "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"], ids=["plain", "defiant"]
)
def test_a_program_that_spins_runs_out_of_cpu_seconds(zygote: Zygote, prelude: str) -> None:
    error, _ = attacked(zygote, prelude + "while True: pass", cpu_seconds=1, reply_seconds=60)
    assert (error.kind, error.message) == ("timeout", "used up its 1 CPU seconds")


@pytest.mark.attack
@pytest.mark.parametrize(
    "body",
    ["held = []\nwhile True: held.append(torch.ones(1 << 24))", "held = [0]\nwhile True: held *= 2"],
    ids=["tensors", "lists"],
)
def test_a_program_that_allocates_without_end_runs_out_of_memory(zygote: Zygote, body: str) -> None:
    error, _ = attacked(zygote, body, memory_bytes=1 << 30)
    assert error.kind == "memory"
    assert error.place.startswith("train.py:")


@pytest.mark.attack
def test_output_without_end_is_kept_up_to_the_limit_and_counted(zygote: Zygote) -> None:
    text = "def shout():\n    for _ in range(1000): print('x' * 100_000)\n    return 'done'\n"
    limits = Limits(output_bytes=1000)
    with open_program(zygote, {"train.py": text}, limits=limits) as program:
        assert program.call("shout") == "done"
    assert program.output == "x" * 1000
    assert program.output_dropped == 1000 * 100_001 - 1000


@pytest.mark.attack
@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        ("os.kill(os.getpid(), 9)", {"memory"}),
        ("os.kill(os.getpid(), 11)", {"error"}),
        ("os.kill(os.getpid(), 19)", {"timeout"}),
        ("os._exit(7)", {"exit"}),
        ("os.close(3)", {"exit", "error"}),
        ("os.closerange(0, 64)\ntime.sleep(1000)", {"exit"}),
        ("os.dup2(os.open('/dev/null', 2), 3)", {"exit", "error"}),
        ("import builtins\nbuiltins.__dict__.clear()", {"exit", "error"}),
        ("import builtins\nbuiltins.isinstance = builtins.type = None", {"exit", "error"}),
        ("os.write(3, b'x' * 100_000)", {"protocol"}),
        ("os.write(3, b'\\x02\\x00\\x00\\x00{}')", {"protocol"}),
        ('os.write(3, b\'\\x10\\x00\\x00\\x00{"v":1,"n":[]}  \')', {"protocol"}),
        ("os.write(3, b'\\x10\\x00\\x00')\ntime.sleep(1000)", {"timeout"}),
        ("class Odd(float): pass\nreturn Odd(0)", {"contract"}),
        ("return [[0] * 1000] * 1000", {"contract"}),
        ("return torch.zeros(1 << 27)", {"contract"}),
        ("import bughunt.judge.wire as w\nw.send_frame = lambda s, f: s.sendall(b'junk' * 9)", {"protocol"}),
        ("sys.setrecursionlimit(10**9)\ndef f(): f()\nf()", {"error", "memory", "timeout"}),
        ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})", {"error", "exit"}),
        ("def f():\n  try: f()\n  finally: f()\nf()", {"timeout"}),
        ("open('big', 'wb').write(bytes(1 << 27))", {"error"}),
        ("os.write(os.open('/proc/self/mem', 1), b'x')", {"error"}),
    ],
)
def test_an_attack_ends_in_an_ordinary_error(zygote: Zygote, body: str, kinds: set[str]) -> None:
    error, _ = attacked(zygote, body, reply_seconds=3 if "timeout" in kinds else 20)
    assert error.kind in kinds, error


@pytest.mark.attack
@pytest.mark.parametrize(
    "start",
    ["pass", "os.setsid()", "os.setsid()\n    if os.fork(): os._exit(0)"],
    ids=["child", "own session", "daemon"],
)
def test_what_a_program_starts_ends_with_it(zygote: Zygote, start: str) -> None:
    body = f"if os.fork() == 0:\n    {start}\n    time.sleep(1000)\ntime.sleep(0.2)\nos._exit(0)"
    error, _ = attacked(zygote, body)
    assert error.kind == "exit"
    assert wait_until(lambda: not [*descendants(zygote.process.pid)])


def test_a_hundred_programs_leave_nothing_behind(zygote: Zygote) -> None:
    ours, theirs = open_files(os.getpid()), open_files(zygote.process.pid)
    threads = threading.active_count()
    for number in range(100):
        with open_program(zygote, {"train.py": HONEST}) as program:
            assert program.call("double", number) == 2 * number
    assert open_files(os.getpid()) <= ours
    assert threading.active_count() <= threads
    assert wait_until(lambda: not [*descendants(zygote.process.pid)])
    # it tells the last end before it closes the pipe for that
    assert wait_until(lambda: open_files(zygote.process.pid) <= theirs)
    assert [path.name for path in zygote.folder.iterdir()] == ["messages"]


def test_programs_run_side_by_side(zygote: Zygote) -> None:
    text = "import time\ndef nap(x):\n    time.sleep(0.3)\n    return x\n"
    found: list[int] = []

    def use(number: int) -> None:
        with open_program(zygote, {"train.py": text}) as program:
            found.append(program.call("nap", number))

    users = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert sorted(found) == [0, 1, 2, 3]


@pytest.mark.attack
@pytest.mark.parametrize("number", [9, 19], ids=["killed", "stopped"])
def test_a_program_that_ends_the_zygote_costs_no_other_program(number: int) -> None:
    with Zygote(most=Tier.S0) as zygote:
        error, _ = attacked(zygote, f"os.kill(os.getppid(), {number})\ntime.sleep(9)", reply_seconds=2)
        assert error.kind in ("infra", "timeout", "memory")
        serve_honestly(zygote)


def test_closing_the_zygote_ends_its_programs() -> None:
    zygote = Zygote(most=Tier.S0)
    program = open_program(zygote, {"train.py": HONEST})
    pid = program.process.pid
    zygote.close()
    with pytest.raises(ProgramError) as caught:
        program.call("double", 1)
    assert caught.value.kind in ("infra", "memory")
    assert not Path(f"/proc/{pid}").exists()
    assert not zygote.folder.exists()
    program.close()
