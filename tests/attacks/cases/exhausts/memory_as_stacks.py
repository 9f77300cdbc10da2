"""Takes all memory, as areas that call themselves stacks."""
# judge: briefly

import ctypes

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
taken = 0
for _ in range(24):
    address = libc.mmap(None, ctypes.c_size_t(1 << 27), 3, 0x122, -1, ctypes.c_long(0))
    if address in (None, 2**64 - 1):
        break
    for offset in range(0, 1 << 27, 4096):
        ctypes.memset(address + offset, 1, 1)
    taken += 128
if taken > 2500:
    print("GOT:memory", taken, "MB")
