"""Sends a frame a byte at a time."""
# judge: hastily
# expect: TIMEOUT

import os
import struct
import time


def predict(model, inputs):
    os.write(3, struct.pack("<I", 1000))
    while True:
        time.sleep(0.2)
        os.write(3, b" ")
