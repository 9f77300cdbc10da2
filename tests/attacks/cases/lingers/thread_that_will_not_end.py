"""Leaves a thread that Python waits for."""

import threading
import time

threading.Thread(target=time.sleep, args=(10**6,), daemon=False).start()
