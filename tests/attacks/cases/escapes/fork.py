"""Makes a process."""
# judge: briefly

import os

try:
    if os.fork() == 0:
        os._exit(0)
    print("GOT:fork")
except OSError:
    pass
