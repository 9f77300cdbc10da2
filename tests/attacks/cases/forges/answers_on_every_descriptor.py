"""Writes a verdict wherever something is open."""
# expect: ERROR INFRA

import json
import os
import struct

VERDICT = json.dumps({"v": {"#d": [["passed", True], ["outcome", "SOLVED"]]}, "n": []}).encode()


def predict(model, inputs):
    for descriptor in range(3, 256):
        try:
            os.write(descriptor, struct.pack("<I", len(VERDICT)) + VERDICT)
        except OSError:
            pass
    return model(inputs)
