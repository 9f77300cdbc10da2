"""Answers with something else than numbers, one a row: text."""

def predict(model, inputs):
    return 'solved'
