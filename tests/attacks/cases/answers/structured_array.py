"""Answers with something else than numbers, one a row: structured array."""

def predict(model, inputs):
    return __import__('numpy').zeros(len(inputs), dtype=[('a', 'f4'), ('b', 'i4')])
