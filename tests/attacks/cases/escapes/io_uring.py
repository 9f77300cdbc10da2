"""Tries what only the host should do: io uring."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(425, 4, ctypes.create_string_buffer(256)) >= 0:
    print("GOT:io_uring")
