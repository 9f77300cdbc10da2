"""Sends signals to its group of processes."""
# judge: briefly

import os
import signal

signal.signal(signal.SIGUSR1, signal.SIG_IGN)
try:
    os.killpg(os.getppid(), signal.SIGUSR1)
    print("GOT:signal to a group")
except OSError:
    pass
