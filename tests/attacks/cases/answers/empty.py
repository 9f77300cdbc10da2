"""Answers with something else than numbers, one a row: empty."""

def predict(model, inputs):
    return torch.zeros(0)
