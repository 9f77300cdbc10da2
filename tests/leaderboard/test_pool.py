"""Workers end with the process that keeps them, whenever that ends."""

import os
import subprocess
import sys

from bughunt_leaderboard.pool import KEEPER

PROGRAM = """
import time
from bughunt_leaderboard.worker import obey
obey(lambda *_: None)
time.sleep(60)
"""


def test_a_worker_whose_keeper_died_before_it_began_ends_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(30)
    environment = {**os.environ, KEEPER: str(gone.pid)}
    worker = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, timeout=50, check=False)
    assert worker.returncode == 1
