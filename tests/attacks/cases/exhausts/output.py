"""Prints without end."""
# judge: briefly hastily
# expect: TIMEOUT

import sys


def predict(model, inputs):
    while True:
        sys.stdout.write("A" * 65536)
        sys.stdout.flush()
