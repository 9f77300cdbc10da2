"""Tries what only the host should do: new seccomp."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(317, 1, 0, 0) >= 0:
    print("GOT:new_seccomp")
