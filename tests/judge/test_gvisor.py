"""The wall around a worker, S3, with gVisor: a kernel of its own under everything that is judged."""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

RUNSC = shutil.which("runsc")
pytestmark = pytest.mark.skipif(not RUNSC or os.getuid() != 0, reason="gVisor is not installed, or not root")

PROGRAM = """
import os, socket
def tries(port, path):
    open(path, "w").write("mine")
    try:
        socket.create_connection(("127.0.0.1", int(port)), 5).close()
        line = "open"
    except OSError:
        line = "closed"
    return [os.uname().release, open(path).read(), line]
"""
INSIDE = """
import json, sys
from bughunt.judge.program import open_program
from bughunt.judge.zygote import Zygote
program, port, path = sys.argv[1:]
with Zygote() as zygote, open_program(zygote, {"train.py": program}) as worker:
    print(json.dumps(worker.call("tries", port, path)))
"""


def inside(*words: str) -> str:
    """What a command prints in a gVisor without a network, whose changes to files are its own."""
    wall = [str(RUNSC), "--network=none", "--overlay2=root:memory", "do", "--"]
    done = subprocess.run([*wall, *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_program_behind_the_wall_reaches_neither_kernel_nor_files_nor_lines_of_the_host() -> None:
    path = Path("/var/tmp") / f"bughunt-{uuid.uuid4().hex}"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 5).close()  # which this side of the wall can do
        told = inside(sys.executable, "-c", INSIDE, PROGRAM, str(port), str(path))
    release, written, line = json.loads(told)
    assert release != os.uname().release
    assert (written, path.exists()) == ("mine", False)
    assert line == "closed"


def test_the_doctor_says_what_is_left_inside() -> None:
    found = json.loads(inside(sys.executable, "-m", "bughunt", "doctor", "--json"))["sandbox"]
    assert found["tier"] in ("S0", "S1")
    assert any(missing.startswith("S2") for missing in found["missing"])
