"""Answers with a frame of a hundred thousand brackets."""
# expect: ERROR INFRA

import os
import struct


def predict(model, inputs):
    header = b'{"v":' + b"[" * 100_000 + b"]" * 100_000 + b',"n":[]}'
    os.write(3, struct.pack("<I", len(header)) + header)
    return model(inputs)
