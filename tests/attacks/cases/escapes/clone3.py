"""Makes a process by clone3, whose flags a filter cannot see."""
# judge: briefly
# machine: x86_64

import ctypes

libc = ctypes.CDLL(None)
arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17)
pid = libc.syscall(435, arguments, 64)
if pid == 0:
    libc._exit(0)
if pid > 0:
    print("GOT:clone3")
