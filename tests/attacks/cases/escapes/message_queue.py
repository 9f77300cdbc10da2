"""Tries what only the host should do: message queue."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)

if libc.msgget(0, 0o1777) >= 0:
    print("GOT:message_queue")
