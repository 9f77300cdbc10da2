"""Answers with a number of a million digits."""

def predict(model, inputs):
    return 10**1_000_000
