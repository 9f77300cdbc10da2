"""Makes a thread with a namespace of its own."""
# judge: briefly
# machine: x86_64

import ctypes

libc = ctypes.CDLL(None)
pid = libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
if pid == 0:
    libc._exit(0)
if pid > 0:
    print("GOT:clone")
