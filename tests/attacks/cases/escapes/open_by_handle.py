"""Tries what only the host should do: open by handle."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.syscall(303, -100, b'/', ctypes.create_string_buffer(200), ctypes.create_string_buffer(8), 0) >= 0:
    print("GOT:open_by_handle")
