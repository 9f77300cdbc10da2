"""Takes all memory, as shared mappings."""
# judge: briefly

import mmap

held = []
try:
    for _ in range(24):
        area = mmap.mmap(-1, 1 << 27)
        for offset in range(0, 1 << 27, 4096):
            area[offset] = 1
        held.append(area)
    print("GOT:memory", len(held) << 7, "MB")
except (OSError, MemoryError, ValueError):
    held.clear()
