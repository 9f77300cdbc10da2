"""Tries what only the host should do: ptrace itself."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.ptrace(0, 0, 0, 0) >= 0:
    print("GOT:ptrace_itself")
