"""Tries what only the host should do: unmount."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.umount2(b"/proc", 2) >= 0:
    print("GOT:unmount")
