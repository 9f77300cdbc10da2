"""Opens /etc/passwd."""
# judge: briefly

import os

try:
    os.listdir("/etc/passwd") if os.path.isdir("/etc/passwd") else open("/etc/passwd", "rb").read(1)
    print("GOT:/etc/passwd")
except OSError:
    pass
