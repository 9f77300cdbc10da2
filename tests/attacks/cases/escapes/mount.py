"""Tries what only the host should do: mount."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.mount(b"x", b"/tmp", b"tmpfs", 0, 0) >= 0:
    print("GOT:mount")
