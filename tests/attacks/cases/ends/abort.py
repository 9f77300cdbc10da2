"""Aborts."""
# expect: ERROR

import os

os.abort()
