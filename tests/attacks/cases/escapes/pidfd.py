"""Tries what only the host should do: pidfd."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(434, os.getppid() or 1, 0) >= 0:
    print("GOT:pidfd")
