"""Tries what only the host should do: set user."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.setresuid(1, 1, 1) >= 0:
    print("GOT:set_user")
