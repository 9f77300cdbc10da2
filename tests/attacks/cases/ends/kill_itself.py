"""Dies of a signal of its own."""

import os

os.kill(os.getpid(), 9)
