"""Answers with something else than numbers, one a row: infinite."""

def predict(model, inputs):
    return torch.full((len(inputs),), float('inf'))
