"""Tries what only the host should do: inotify."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.inotify_init() >= 0:
    print("GOT:inotify")
