"""Answers with something else than numbers, one a row: uninitialised."""

def predict(model, inputs):
    return torch.empty(len(inputs))
