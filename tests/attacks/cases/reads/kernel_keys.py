"""Opens /proc/keys."""
# judge: briefly

import os

try:
    os.listdir("/proc/keys") if os.path.isdir("/proc/keys") else open("/proc/keys", "rb").read(1)
    print("GOT:/proc/keys")
except OSError:
    pass
