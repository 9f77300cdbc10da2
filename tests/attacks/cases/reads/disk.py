"""Opens /dev/vda."""
# judge: briefly

import os

try:
    os.listdir("/dev/vda") if os.path.isdir("/dev/vda") else open("/dev/vda", "rb").read(1)
    print("GOT:/dev/vda")
except OSError:
    pass
