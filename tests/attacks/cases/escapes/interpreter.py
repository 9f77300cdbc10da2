"""Becomes another program."""

import os
import sys

try:
    os.execv(sys.executable, [sys.executable, "-c", "print('GOT:exec')"])
except OSError:
    pass
