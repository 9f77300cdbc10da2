"""Answers with something else than numbers, one a row: half."""

def predict(model, inputs):
    return model(inputs).half()
