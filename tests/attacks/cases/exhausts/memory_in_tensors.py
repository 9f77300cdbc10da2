"""Takes all memory, as tensors."""
# judge: briefly

held = []
try:
    for _ in range(64):
        held.append(torch.ones(1 << 26))
    print("GOT:memory", len(held) * 256, "MB")
except (RuntimeError, MemoryError):
    held.clear()
