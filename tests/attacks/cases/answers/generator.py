"""Answers with something else than numbers, one a row: generator."""

def predict(model, inputs):
    return (x for x in model(inputs))
