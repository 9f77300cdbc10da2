"""Opens /dev/kmsg."""
# judge: briefly

import os

try:
    os.listdir("/dev/kmsg") if os.path.isdir("/dev/kmsg") else open("/dev/kmsg", "rb").read(1)
    print("GOT:/dev/kmsg")
except OSError:
    pass
