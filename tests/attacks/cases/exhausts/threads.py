"""Starts threads without end."""
# judge: briefly

import threading
import time

made = 0
try:
    for _ in range(3000):
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        made += 1
except (RuntimeError, MemoryError):
    pass
if made >= 2500:
    print("GOT:threads", made)
