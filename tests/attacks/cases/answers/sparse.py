"""Answers with something else than numbers, one a row: sparse."""

def predict(model, inputs):
    return torch.zeros(len(inputs)).to_sparse()
