"""Answers with something else than numbers, one a row: quantized."""

def predict(model, inputs):
    return torch.quantize_per_tensor(model(inputs), 0.1, 0, torch.qint8)
