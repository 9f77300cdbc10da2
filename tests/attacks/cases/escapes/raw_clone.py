"""Makes a process by the system call itself, in every spelling."""
# judge: briefly
# machine: x86_64

import ctypes
import os

libc = ctypes.CDLL(None)
for number, arguments in ((57, ()), (58, ()), (56, (17, 0, 0, 0, 0))):
    pid = libc.syscall(number, *arguments)
    if pid == 0:
        libc._exit(0)
    if pid > 0:
        print("GOT:clone", number)
