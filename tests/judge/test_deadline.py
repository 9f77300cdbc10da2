"""Waits end when they should, and not because the machine stood still: a process is really stopped here."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bughunt.judge import wire
from bughunt.judge.deadline import LATE, SLICE, Deadline

WORKING = """
import socket, sys
from bughunt.judge import wire
from bughunt.judge.deadline import Deadline
channel = socket.socket(fileno=int(sys.argv[1]))
deadline = Deadline(3)
print("begun", flush=True)
{act}
print("counted in full" if deadline.spent() > 3 else "done")
"""
RECEIVE = "assert wire.receive(channel, deadline) == 'an answer'"
SEND = "wire.send_frame(channel, bytes(2**24), deadline)"


@contextmanager
def stopped_while_it_does(act: str, early: bytes = b"") -> Iterator[socket.socket]:
    """The other end of the channel of a process that stands still for longer than it waits and goes on."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [sys.executable, "-c", WORKING.format(act=act), str(theirs.fileno())]
        with subprocess.Popen(
            words, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True
        ) as working:
            assert working.stdout
            assert working.stdout.readline() == "begun\n"
            ours.send(early)
            os.kill(working.pid, signal.SIGSTOP)
            time.sleep(3 + SLICE)
            os.kill(working.pid, signal.SIGCONT)
            time.sleep(LATE)
            yield ours
            assert working.communicate(timeout=20) == ("done\n", None)


@pytest.mark.parametrize("cut", [0, 3], ids=["whole", "in two parts"])
def test_the_time_that_a_process_is_stopped_does_not_count_while_it_receives(cut: int) -> None:
    frame = wire.encode("an answer")
    with stopped_while_it_does(RECEIVE, early=frame[:cut]) as channel:
        channel.send(frame[cut:])


def test_nor_does_it_count_while_it_sends() -> None:
    with stopped_while_it_does(SEND) as channel:
        assert wire.receive_exactly(channel, 2**24, Deadline(20)) == bytes(2**24)


def test_sending_to_somebody_who_does_not_read_ends_with_the_wait() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        deadline = Deadline(SLICE + 0.2)
        with pytest.raises(TimeoutError):
            wire.send_frame(ours, bytes(2**24), deadline)
        assert deadline.spent() >= SLICE + 0.2


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
