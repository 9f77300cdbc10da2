"""Fails so that the judge's own frames might be told back to it."""
# expect: ERROR

import sys


def predict(model, inputs):
    frames = []
    frame = sys._getframe()
    while frame:
        frames.append((frame.f_code.co_filename, sorted(frame.f_locals)))
        frame = frame.f_back
    if any("seed" in names or "expected" in names for file, names in frames if "behaviour" in file):
        print("GOT:frames", frames)
    raise ValueError(frames)
