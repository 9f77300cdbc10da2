"""Tries what only the host should do: new user namespace."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.unshare(0x10000000) >= 0:
    print("GOT:new_user_namespace")
