"""Makes itself readable, unreadable or a reaper by prctl."""
# judge: briefly

import ctypes

libc = ctypes.CDLL(None)
for option, value in ((4, 0), (36, 1), (1, 0), (22, 1), (38, 0)):
    if libc.prctl(option, value, 0, 0, 0) == 0:
        print("GOT:prctl", option)
