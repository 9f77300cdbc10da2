"""Starts a shell."""
# judge: briefly

import subprocess

try:
    print("GOT:exec", subprocess.run(["/bin/sh", "-c", "id"], capture_output=True, text=True).stdout)
except OSError:
    pass
