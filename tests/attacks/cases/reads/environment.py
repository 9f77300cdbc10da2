"""Looks for secrets in the environment, its own and others'."""
# judge: briefly

import glob
import os

for name, value in os.environ.items():
    if "BH-" + "CANARY" in value or any(word in name for word in ("TOKEN", "SECRET", "KEY")):
        print("GOT:environment", name)
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        if b"BH-" + b"CANARY" in open(path, "rb").read():
            print("GOT:environ", path)
    except OSError:
        pass
