"""Answers with two gigabytes."""

def predict(model, inputs):
    return torch.zeros(1).expand(1 << 29)
