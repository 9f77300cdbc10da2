"""Tries what only the host should do: change mode."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.chmod(b"train.py", 0o4777) >= 0:
    print("GOT:change_mode")
