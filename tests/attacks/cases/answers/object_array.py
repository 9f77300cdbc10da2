"""Answers with something else than numbers, one a row: object array."""

def predict(model, inputs):
    return __import__('numpy').array([object()] * len(inputs))
