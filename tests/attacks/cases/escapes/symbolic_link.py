"""Tries what only the host should do: symbolic link."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.symlink(b"/etc/passwd", b"link") >= 0:
    print("GOT:symbolic_link")
