"""Tries what only the host should do: pivot root."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.pivot_root(b".", b".") >= 0:
    print("GOT:pivot_root")
