"""Answers with something else than numbers, one a row: complex numbers."""

def predict(model, inputs):
    return model(inputs).to(torch.complex64)
