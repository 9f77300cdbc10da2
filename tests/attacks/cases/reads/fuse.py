"""Opens /dev/fuse."""
# judge: briefly

import os

try:
    os.listdir("/dev/fuse") if os.path.isdir("/dev/fuse") else open("/dev/fuse", "rb").read(1)
    print("GOT:/dev/fuse")
except OSError:
    pass
