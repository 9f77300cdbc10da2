"""Answers with something else than numbers, one a row: meta."""

def predict(model, inputs):
    return torch.zeros(len(inputs), device='meta')
