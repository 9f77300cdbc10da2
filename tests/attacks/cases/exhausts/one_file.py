"""Writes one endless file."""
# judge: briefly

written = 0
try:
    with open("bh_pwn_big", "wb") as file:
        for _ in range(32):
            file.write(bytes(8 << 20))
            file.flush()
            written += 8
except OSError:
    pass
if written > 100:
    print("GOT:disk", written, "MB")
