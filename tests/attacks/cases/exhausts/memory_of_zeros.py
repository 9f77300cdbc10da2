"""Takes all memory, as a device full of zeros that is mapped."""
# judge: briefly

import mmap

held = []
try:
    for _ in range(24):
        with open("/dev/zero", "r+b", buffering=0) as zeros:
            area = mmap.mmap(zeros.fileno(), 1 << 27)
        for offset in range(0, 1 << 27, 4096):
            area[offset] = 1
        held.append(area)
    print("GOT:memory", len(held) << 7, "MB")
except (OSError, MemoryError, ValueError):
    held.clear()
