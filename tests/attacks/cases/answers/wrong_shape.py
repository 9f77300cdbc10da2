"""Answers with something else than numbers, one a row: wrong shape."""

def predict(model, inputs):
    return torch.zeros(3)
