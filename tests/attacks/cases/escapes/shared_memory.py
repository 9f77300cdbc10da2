"""Tries what only the host should do: shared memory."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.shmget(0, 4096, 0o1777) >= 0:
    print("GOT:shared_memory")
