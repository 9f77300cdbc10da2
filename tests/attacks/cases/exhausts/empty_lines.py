"""Prints empty lines without end, to both outputs."""
# judge: briefly hastily
# expect: TIMEOUT

import os


def train(model, data, cfg, rng):
    while True:
        os.write(1, b"\n" * 4096)
        os.write(2, b"\n" * 4096)
    yield
