"""Leaves a process behind that belongs to nobody."""

import os
import time

try:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(20)
        os._exit(0)
    print("GOT:daemon")
except OSError:
    pass
