"""Tries what only the host should do: personality."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.personality(0x0040000) >= 0:
    print("GOT:personality")
