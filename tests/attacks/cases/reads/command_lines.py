"""Looks at the command lines of other processes."""
# judge: briefly

import glob
import os

for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        if int(path.split("/")[2]) != os.getpid() and open(path, "rb").read():
            print("GOT:cmdline", path)
            break
    except OSError:
        pass
