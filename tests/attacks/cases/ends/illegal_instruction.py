"""Jumps into the middle of nowhere."""
# expect: ERROR

import ctypes

ctypes.CFUNCTYPE(None)(8)()
