"""Tries what only the host should do: perf."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(298, ctypes.create_string_buffer(128), 0, -1, -1, 0) >= 0:
    print("GOT:perf")
