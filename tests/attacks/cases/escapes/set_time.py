"""Tries what only the host should do: set time."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.settimeofday(ctypes.create_string_buffer(16), 0) >= 0:
    print("GOT:set_time")
