"""Opens /etc/shadow."""
# judge: briefly

import os

try:
    os.listdir("/etc/shadow") if os.path.isdir("/etc/shadow") else open("/etc/shadow", "rb").read(1)
    print("GOT:/etc/shadow")
except OSError:
    pass
