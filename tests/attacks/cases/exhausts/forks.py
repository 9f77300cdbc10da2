"""Forks without end."""
# judge: briefly

import os
import time

made = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        made += 1
except OSError:
    pass
if made:
    print("GOT:forks", made)
