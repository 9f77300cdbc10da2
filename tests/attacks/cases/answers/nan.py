"""Answers with something else than numbers, one a row: nan."""

def predict(model, inputs):
    return torch.full((len(inputs),), float('nan'))
