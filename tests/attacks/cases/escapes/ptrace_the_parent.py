"""Tries what only the host should do: ptrace the parent."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.ptrace(16, os.getppid() or 1, 0, 0) >= 0:
    print("GOT:ptrace_the_parent")
