"""Opens /root/.ssh."""
# judge: briefly

import os

try:
    os.listdir("/root/.ssh") if os.path.isdir("/root/.ssh") else open("/root/.ssh", "rb").read(1)
    print("GOT:/root/.ssh")
except OSError:
    pass
