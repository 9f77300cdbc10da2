"""Tries what only the host should do: device node."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.mknod(b"device", 0o20666, 0x0101) >= 0:
    print("GOT:device_node")
