"""Tries what only the host should do: bpf."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(321, 0, 0, 0) >= 0:
    print("GOT:bpf")
