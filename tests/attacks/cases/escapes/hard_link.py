"""Tries what only the host should do: hard link."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.link(b"train.py", b"link") >= 0:
    print("GOT:hard_link")
