"""Waits end when they should, and not because the machine stood still: a process is really stopped here."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from bughunt.judge import wire
from bughunt.judge.deadline import LATE, SLICE, Deadline

WAITING = """
import socket, sys
from bughunt.judge import wire
from bughunt.judge.deadline import Deadline
channel = socket.socket(fileno=int(sys.argv[1]))
deadline = Deadline(3)
print("waiting", flush=True)
print(wire.receive(channel, deadline))
"""


@pytest.mark.parametrize("at_once", [True, False], ids=["whole", "in two parts"])
def test_the_time_that_a_process_is_stopped_does_not_count(at_once: bool) -> None:
    ours, theirs = socket.socketpair()
    frame = wire.encode("an answer")
    with ours, theirs:
        words = [sys.executable, "-c", WAITING, str(theirs.fileno())]
        with subprocess.Popen(
            words, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True
        ) as waiting:
            assert waiting.stdout
            assert waiting.stdout.readline() == "waiting\n"
            if not at_once:
                ours.send(frame[:3])
            os.kill(waiting.pid, signal.SIGSTOP)
            time.sleep(3 + SLICE)
            os.kill(waiting.pid, signal.SIGCONT)
            time.sleep(LATE)
            ours.send(frame if at_once else frame[3:])
            assert waiting.communicate(timeout=20) == ("an answer\n", None)


@pytest.mark.parametrize("seconds", [0.2, SLICE + 0.2])
def test_a_wait_in_vain_takes_as_long_as_was_said(seconds: float) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            wire.receive(theirs, Deadline(seconds))
        assert time.monotonic() - begun >= seconds
        with pytest.raises(TimeoutError):
            Deadline(0).remaining()
