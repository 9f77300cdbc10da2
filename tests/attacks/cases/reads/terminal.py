"""Opens /dev/tty."""
# judge: briefly

import os

try:
    os.listdir("/dev/tty") if os.path.isdir("/dev/tty") else open("/dev/tty", "rb").read(1)
    print("GOT:/dev/tty")
except OSError:
    pass
