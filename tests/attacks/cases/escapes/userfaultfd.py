"""Tries what only the host should do: userfaultfd."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(323, 1) >= 0:
    print("GOT:userfaultfd")
