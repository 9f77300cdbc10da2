"""Opens /dev/kvm."""
# judge: briefly

import os

try:
    os.listdir("/dev/kvm") if os.path.isdir("/dev/kvm") else open("/dev/kvm", "rb").read(1)
    print("GOT:/dev/kvm")
except OSError:
    pass
