"""Uses the file of its own memory to write where the kernel would not let it."""
# judge: briefly

try:
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        print("GOT:mem", memory.fileno())
except OSError:
    pass
