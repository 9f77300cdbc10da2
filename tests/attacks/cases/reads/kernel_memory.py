"""Opens /proc/kcore."""
# judge: briefly

import os

try:
    os.listdir("/proc/kcore") if os.path.isdir("/proc/kcore") else open("/proc/kcore", "rb").read(1)
    print("GOT:/proc/kcore")
except OSError:
    pass
