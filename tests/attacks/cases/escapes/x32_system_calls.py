"""Asks through the interface of x32, whose numbers have a bit set."""
# judge: briefly
# machine: x86_64

import ctypes

if ctypes.CDLL(None).syscall(0x40000000 | 39) > 0:
    print("GOT:x32")
