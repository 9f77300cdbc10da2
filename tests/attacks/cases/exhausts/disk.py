"""Fills every disk that it can write to."""
# judge: briefly

import os

written = 0
for folder in (".", "/dev/shm", "/tmp", "/var/tmp"):
    try:
        for number in range(32):
            with open(f"{folder}/bh_pwn_fill{number}", "wb") as file:
                file.write(bytes(8 << 20))
                written += 8
    except OSError:
        pass
for folder in (".", "/dev/shm", "/tmp", "/var/tmp"):
    for number in range(32):
        try:
            os.unlink(f"{folder}/bh_pwn_fill{number}")
        except OSError:
            pass
if written > 100:
    print("GOT:disk", written, "MB")
