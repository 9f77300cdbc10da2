"""Becomes another program."""
# judge: briefly

import os
import sys

try:
    os.execv(sys.executable, [sys.executable, "-c", "print('GOT:exec')"])
except OSError:
    pass
