"""Writes wherever it can."""
# judge: briefly

import os
import sys

for folder in ("/tmp", "/dev/shm", "/var/tmp", "/root", "/", "/usr/lib", "/proc/sys/kernel", *sys.path):
    try:
        path = f"{folder}/bh_pwn_file"
        if os.path.realpath(folder) != os.path.realpath(os.getcwd()):
            open(path, "w").close()
            os.unlink(path)
            print("GOT:write", folder)
    except OSError:
        pass
