"""Takes all memory, as a list."""
# judge: briefly

held = [0]
try:
    while len(held) < 1 << 31:
        held *= 2
    print("GOT:memory")
except MemoryError:
    held.clear()
