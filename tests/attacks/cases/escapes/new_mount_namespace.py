"""Tries what only the host should do: new mount namespace."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.unshare(0x20000) >= 0:
    print("GOT:new_mount_namespace")
