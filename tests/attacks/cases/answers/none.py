"""Answers with something else than numbers, one a row: none."""

def predict(model, inputs):
    return None
