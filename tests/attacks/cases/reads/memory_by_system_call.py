"""Reads its parent's memory with process_vm_readv."""
# judge: briefly

import ctypes
import os

buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
libc = ctypes.CDLL(None)
for pid in (os.getppid(), 1):
    remote = (ctypes.c_void_p * 2)(id(buffer), 8)
    if pid not in (0, os.getpid()) and libc.process_vm_readv(pid, vector, 1, remote, 1, 0) == 8:
        print("GOT:memory of", pid)
