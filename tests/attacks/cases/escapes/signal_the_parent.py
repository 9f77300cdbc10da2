"""Sends signals to its parent and to everybody."""
# judge: briefly

import os

for pid in (os.getppid(), 1, -1):
    try:
        if pid not in (0, os.getpid()):
            os.kill(pid, 0)
            print("GOT:signal", pid)
    except OSError:
        pass
