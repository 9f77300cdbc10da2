"""Tries what only the host should do: reboot."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(169, 1, 2, 3, 0) >= 0:
    print("GOT:reboot")
