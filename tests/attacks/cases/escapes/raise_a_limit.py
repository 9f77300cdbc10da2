"""Tries what only the host should do: raise a limit."""
# judge: briefly

import ctypes
import os

libc = ctypes.CDLL(None)
def resource_raise():
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))
        return 0
    except (OSError, ValueError):
        return -1
if resource_raise() >= 0:
    print("GOT:raise_a_limit")
