"""Opens files without end."""
# judge: briefly

held = []
try:
    for _ in range(5000):
        held.append(open("/dev/null"))
    print("GOT:descriptors", len(held))
except OSError:
    held.clear()
