"""Tries what only the host should do: change root."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.chroot(b".") >= 0:
    print("GOT:change_root")
